// SPDX-License-Identifier: Apache-2.0
// Status and Result<T>: how every function of the public API reports an expected failure.
#ifndef HGA_STATUS_H_
#define HGA_STATUS_H_

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

namespace hga {

enum class StatusCode {
  kOk = 0,
  kInvalidArgument,    // the caller's values contradict a stated rule
  kNotFound,           // a file, a preset, a tensor that isn't there
  kDataLoss,           // bytes that do not parse or do not match their checksum
  kUnsupported,        // well-formed, but not something this build can run
  kResourceExhausted,  // a budget, a limit or memory
  kIoError,            // the operating system refused a read or a write
  kCancelled,          // the caller's callback asked to stop
  kDeadlineExceeded,   // it took longer than the caller allowed
  kInternal,           // a bug of ours
};

// One outcome. Copyable, cheap when ok. The message names the file, the field, the offset and both
// numbers where there are any.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status OkStatus() { return Status(); }
inline Status InvalidArgument(std::string m) {
  return {StatusCode::kInvalidArgument, std::move(m)};
}
inline Status NotFound(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
inline Status DataLoss(std::string m) { return {StatusCode::kDataLoss, std::move(m)}; }
inline Status Unsupported(std::string m) { return {StatusCode::kUnsupported, std::move(m)}; }
inline Status ResourceExhausted(std::string m) {
  return {StatusCode::kResourceExhausted, std::move(m)};
}
inline Status IoError(std::string m) { return {StatusCode::kIoError, std::move(m)}; }
inline Status Cancelled(std::string m) { return {StatusCode::kCancelled, std::move(m)}; }
inline Status DeadlineExceeded(std::string m) {
  return {StatusCode::kDeadlineExceeded, std::move(m)};
}
inline Status Internal(std::string m) { return {StatusCode::kInternal, std::move(m)}; }

// A value or the Status that explains its absence. Reading the value of a failed Result ends the
// process: look at ok() first.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT: implicit by design
  Result(Status status) : status_(std::move(status)) {  // NOLINT: implicit by design
    if (status_.ok()) std::abort();
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & { return Checked(); }
  const T& value() const& { return const_cast<Result*>(this)->Checked(); }
  T&& value() && { return std::move(Checked()); }
  T& operator*() & { return Checked(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(Checked()); }
  T* operator->() { return &Checked(); }
  const T* operator->() const { return &value(); }

 private:
  T& Checked() {
    if (!value_.has_value()) std::abort();
    return *value_;
  }
  Status status_;
  std::optional<T> value_;
};

}  // namespace hga

#define HGA_CONCAT_INNER(a, b) a##b
#define HGA_CONCAT(a, b) HGA_CONCAT_INNER(a, b)
// Leaves the enclosing function with the Status of `expr` unless it is ok.
#define HGA_RETURN_IF_ERROR(expr)                                               \
  do {                                                                          \
    if (::hga::Status hga_status = (expr); !hga_status.ok()) return hga_status; \
  } while (0)
// `lhs` becomes the value of the Result `expr`, or the enclosing function returns its Status.
#define HGA_ASSIGN_OR_RETURN(lhs, expr) \
  HGA_ASSIGN_OR_RETURN_IMPL(HGA_CONCAT(hga_result_, __LINE__), lhs, expr)
#define HGA_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                              \
  if (!result.ok()) return result.status();          \
  lhs = std::move(result).value()

#endif  // HGA_STATUS_H_
