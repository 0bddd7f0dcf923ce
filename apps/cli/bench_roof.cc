// SPDX-License-Identifier: Apache-2.0
// Measures memory reads and matrix products on all threads at once.
#include "bench_roof.h"

#include <cblas.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>
#include <vector>

extern "C" char* openblas_get_corename(void);

namespace hga::cli {
namespace {

constexpr size_t kReadBytes = size_t{512} << 20;  // of all threads: far beyond any cache
constexpr int kReadPasses = 6;
constexpr int kMatrixSize = 1024;
constexpr int kMatrixPasses = 8;
constexpr const char* kCoreVariable = "OPENBLAS_CORETYPE";

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Runs `pass(thread)` on all threads at once, `passes` times after one to warm up; the shortest
// time of a pass from the common start to the last thread's end.
double FastestPass(int threads, int passes, const std::function<void(int)>& pass) {
  double start = 0;
  double best = 0;
  int done = -1;
  // Runs between passes while every thread waits.
  const auto between = [&]() noexcept {
    const double now = Seconds();
    if (done > 0) best = best == 0 ? now - start : std::min(best, now - start);
    ++done;
    start = Seconds();
  };
  std::barrier barrier(threads, between);
  std::vector<std::thread> workers;
  for (int thread = 0; thread < threads; ++thread) {
    workers.emplace_back([&, thread] {
      for (int i = 0; i <= passes; ++i) {
        barrier.arrive_and_wait();
        pass(thread);
      }
      barrier.arrive_and_wait();
    });
  }
  for (std::thread& worker : workers) worker.join();
  return best;
}

// Eight sums of their own hide the latency of the additions.
uint64_t SumOf(const uint64_t* words, size_t count) {
  std::array<uint64_t, 8> sums{};
  for (size_t i = 0; i + 8 <= count; i += 8) {
    for (size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
  }
  return std::accumulate(sums.begin(), sums.end(), uint64_t{0});
}

double MeasureReads(int threads) {
  const size_t words = kReadBytes / sizeof(uint64_t) / static_cast<size_t>(threads);
  std::vector<std::vector<uint64_t>> parts(static_cast<size_t>(threads));
  std::vector<uint64_t> sums(static_cast<size_t>(threads));
  const double seconds = FastestPass(threads, kReadPasses, [&](int thread) {
    auto& part = parts[static_cast<size_t>(thread)];
    if (part.empty()) part.assign(words, static_cast<uint64_t>(thread) + 1);  // on its own node
    sums[static_cast<size_t>(thread)] += SumOf(part.data(), part.size());
  });
  // The sums are used, so that no compiler drops the reads.
  const bool read = std::accumulate(sums.begin(), sums.end(), uint64_t{0}) != 0;
  const double bytes = static_cast<double>(words * sizeof(uint64_t)) * threads;
  return read ? bytes / seconds / 1e9 : 0;
}

double MeasureProducts(int threads) {
  constexpr size_t kElements = size_t{kMatrixSize} * kMatrixSize;
  struct Operands {
    std::vector<float> a, b, c;
  };
  std::vector<Operands> operands(static_cast<size_t>(threads));
  const double seconds = FastestPass(threads, kMatrixPasses, [&](int thread) {
    auto& [a, b, c] = operands[static_cast<size_t>(thread)];
    if (a.empty()) {
      a.assign(kElements, 0.5f);
      b.assign(kElements, 0.25f);
      c.assign(kElements, 0);
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, kMatrixSize, kMatrixSize, kMatrixSize,
                1.0f, a.data(), kMatrixSize, b.data(), kMatrixSize, 0.0f, c.data(), kMatrixSize);
  });
  return 2.0 * kElements * kMatrixSize * threads / seconds / 1e9;
}

// The OPENBLAS_CORETYPE for an --isa; nullptr leaves the choice to OpenBLAS.
const char* CoreTypeFor(const std::string& isa) {
#if defined(__x86_64__)
  const bool automatic = isa.empty() || isa == "auto";
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if ((automatic || isa.starts_with("avx3")) && avx512) return "SkylakeX";
  if (isa == "avx2") return "Haswell";
  if (isa == "sse2" || isa == "ssse3" || isa == "sse4") return "Nehalem";
#endif
  return nullptr;
}

// Starts this program as `hga bench --roof` with `core` and gives what it writes to stdout.
Result<std::string> RunChild(const char* core, int threads) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return IoError("pipe: " + std::string(strerror(errno)));
  const std::string setting = fmt::format("{}={}", kCoreVariable, core);
  std::vector<char*> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    // Options given through the environment are this process's, not the child's.
    if (std::strncmp(*entry, "HGA_", 4) != 0) environment.push_back(*entry);
  }
  environment.push_back(const_cast<char*>(setting.c_str()));
  environment.push_back(nullptr);
  std::vector<std::string> words = {
      "hga", "bench", "--roof", "--threads", fmt::format("{}", threads), "-o", "json"};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  pid_t child = 0;
  const int error = posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments.data(),
                                environment.data());
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string output;
  std::array<char, 4096> buffer;
  ssize_t got = 0;
  while (error == 0 && (got = read(ends[0], buffer.data(), buffer.size())) > 0) {
    output.append(buffer.data(), static_cast<size_t>(got));
  }
  close(ends[0]);
  if (error != 0) return IoError("starting the roof measurement: " + std::string(strerror(error)));
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return Internal(fmt::format("the roof measurement ended with status {}", status));
  }
  return output;
}

}  // namespace

Roof MeasureRoofHere(int threads) {
  openblas_set_num_threads(1);  // one library call per thread of ours
  return {MeasureReads(threads), MeasureProducts(threads), openblas_get_corename()};
}

Result<Roof> MeasureRoof(const std::string& isa, int threads) {
  const char* core = CoreTypeFor(isa);
  if (core == nullptr || std::getenv(kCoreVariable) != nullptr) return MeasureRoofHere(threads);
  HGA_ASSIGN_OR_RETURN(const std::string output, RunChild(core, threads));
  const auto json = nlohmann::json::parse(output, nullptr, /*allow_exceptions=*/false);
  const auto number = [&](const char* name) {
    return json.is_object() && json.contains(name) && json[name].is_number()
               ? json[name].get<double>()
               : 0.0;
  };
  Roof roof{number("memory_gb_s"), number("matrix_gflop_s"), ""};
  if (roof.memory_gb_s <= 0 || roof.matrix_gflop_s <= 0 || !json["matrix_kernels"].is_string()) {
    return Internal("the roof measurement printed no figures");
  }
  roof.matrix_kernels = json["matrix_kernels"].get<std::string>();
  return roof;
}

}  // namespace hga::cli
