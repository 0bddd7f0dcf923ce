// SPDX-License-Identifier: Apache-2.0
// The reference behind the interface of a backend, so that one test can run over both.
#include "reference/reference.h"

#include "backend/host_device.h"

namespace hga {
namespace {

class ReferenceOps final : public Ops {
 public:
  std::string name() const override { return "reference"; }
  int threads() const override { return 1; }
  Status Prepare(const OpsLimits&) override { return OkStatus(); }
  int64_t ScratchBytes(const OpsLimits&, const ScratchUse&) const override { return 0; }
  Device& device() override { return device_; }
  Stream& stream() override { return stream_; }
  Status status() const override { return OkStatus(); }

  void Linear(std::span<const LinearParams> jobs) override {
    for (const LinearParams& job : jobs) reference::Linear(job);
  }
  void Norm(const NormParams& p) override { reference::Norm(p); }
  void Rotate(const RotateParams& p) override { reference::Rotate(p); }
  void Silu(const SiluParams& p) override { reference::Silu(p); }
  void Experts(const ExpertsParams& p) override { reference::Experts(p); }
  void Summarise(const SummariseParams& p) override { reference::Summarise(p); }
  void Beam(const BeamParams& p) override { reference::Beam(p); }
  void Score(const ScoreParams& p) override { reference::Score(p); }
  void Select(const SelectParams& p) override { reference::Select(p); }
  void Route(const RouteParams& p) override { reference::Route(p); }
  void AttendDense(const AttendDenseParams& p) override { reference::AttendDense(p); }
  void AttendRouted(const AttendRoutedParams& p) override { reference::AttendRouted(p); }
  void AttendSampled(const AttendSampledParams& p) override { reference::AttendSampled(p); }

 private:
  HostDevice device_;
  HostStream stream_;
};

}  // namespace

std::unique_ptr<Ops> MakeReferenceOps() { return std::make_unique<ReferenceOps>(); }

}  // namespace hga
