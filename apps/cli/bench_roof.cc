// SPDX-License-Identifier: Apache-2.0
// Measures memory reads and matrix products on all threads at once.
#include "bench_roof.h"

#include <cblas.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mman.h>
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
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string_view>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hga::cli {
namespace {

constexpr size_t kReadBytes = size_t{512} << 20;  // of all threads: far beyond any cache
constexpr int kReadPasses = 12;
constexpr int kMatrixSize = 1024;
constexpr int kMatrixPasses = 24;
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

// Anonymous memory, in huge pages where the system gives them, so that reads don't wait for
// page tables. Pages belong to the thread that writes them first.
class Pages {
 public:
  explicit Pages(size_t bytes) : bytes_(bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    madvise(memory, bytes, MADV_HUGEPAGE);  // refusal only costs speed
    words_ = static_cast<uint64_t*>(memory);
  }
  ~Pages() {
    if (words_ != nullptr) munmap(words_, bytes_);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  uint64_t* words() { return words_; }  // nullptr: no memory
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_;
  uint64_t* words_ = nullptr;
};

// Several sums of their own hide the latency of the additions. count: a multiple of 16.
uint64_t SumOf(const uint64_t* words, size_t count) {
  std::array<uint64_t, 8> sums{};
  for (size_t i = 0; i < count; i += 8) {
    for (size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
  }
  return std::accumulate(sums.begin(), sums.end(), uint64_t{0});
}

#if defined(__x86_64__)
// Measured: a fifth faster than the loop above on 16-byte vectors.
__attribute__((target("avx2"))) uint64_t SumOfAvx2(const uint64_t* words, size_t count) {
  __m256i sums[4] = {};
  for (size_t i = 0; i < count; i += 16) {
    for (size_t j = 0; j < 4; ++j) {
      const auto* from = reinterpret_cast<const __m256i*>(words + i + 4 * j);
      sums[j] = _mm256_add_epi64(sums[j], _mm256_load_si256(from));
    }
  }
  std::array<uint64_t, 16> lanes;
  std::memcpy(lanes.data(), sums, sizeof(sums));
  return std::accumulate(lanes.begin(), lanes.end(), uint64_t{0});
}
#endif

uint64_t WidestSum(const uint64_t* words, size_t count) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return SumOfAvx2(words, count);
#endif
  return SumOf(words, count);
}

double MeasureReads(int threads) {
  constexpr size_t kPage = size_t{2} << 20;
  const size_t bytes = kReadBytes / static_cast<size_t>(threads) / kPage * kPage + kPage;
  std::vector<std::unique_ptr<Pages>> parts(static_cast<size_t>(threads));
  std::vector<uint64_t> sums(static_cast<size_t>(threads));
  const double seconds = FastestPass(threads, kReadPasses, [&](int thread) {
    auto& part = parts[static_cast<size_t>(thread)];
    if (part == nullptr) {
      part = std::make_unique<Pages>(bytes);
      if (part->words() != nullptr) std::memset(part->words(), 1, bytes);
    }
    if (part->words() == nullptr) return;
    sums[static_cast<size_t>(thread)] += WidestSum(part->words(), bytes / sizeof(uint64_t));
  });
  // The sums are looked at, so that no compiler drops the reads; no memory, no figure.
  const bool all = std::all_of(sums.begin(), sums.end(), [](uint64_t sum) { return sum != 0; });
  return all ? static_cast<double>(bytes) * threads / seconds / 1e9 : 0;
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
Result<std::string> RunChild(const char* core, const std::string& isa, int threads) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return IoError("pipe: " + std::string(strerror(errno)));
  const std::string setting = fmt::format("{}={}", kCoreVariable, core);
  std::vector<char*> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    // Options given through the environment are this process's, not the child's.
    const std::string_view text(*entry);
    const bool ours = text.starts_with("HGA_") || text.starts_with(kCoreVariable);
    if (!ours) environment.push_back(*entry);
  }
  environment.push_back(const_cast<char*>(setting.c_str()));
  environment.push_back(nullptr);
  std::vector<std::string> words = {"hga",
                                    "bench",
                                    "--roof",
                                    "--threads",
                                    fmt::format("{}", threads),
                                    "-o",
                                    "json",
                                    "--isa",
                                    isa.empty() ? "auto" : isa};
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
  const char* loaded = std::getenv(kCoreVariable);
  if (core == nullptr || (loaded != nullptr && std::strcmp(core, loaded) == 0)) {
    return MeasureRoofHere(threads);
  }
  HGA_ASSIGN_OR_RETURN(const std::string output, RunChild(core, isa, threads));
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
