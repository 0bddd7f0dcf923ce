// SPDX-License-Identifier: Apache-2.0
// Logits of many checkpoints in one process, for comparison with another implementation.
//
//   logits_driver DIRECTORY...
//
// Of each directory reads ids.bin (32-bit token ids) and writes logits.bin (32-bit floats,
// [tokens][vocab], dense attention), both little-endian. Exit code 1 at the first that fails.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "hga/engine.h"

namespace {

constexpr std::streamoff kMaxTokens = 4096;

hga::Result<std::vector<int32_t>> ReadIds(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff bytes = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (bytes < 4 || bytes % 4 != 0 || bytes > kMaxTokens * 4) {
    return hga::InvalidArgument(path + " has " + std::to_string(bytes) +
                                " bytes, needs 4 per token, 1 to " + std::to_string(kMaxTokens) +
                                " tokens");
  }
  std::vector<int32_t> ids(static_cast<size_t>(bytes / 4));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(ids.data()), bytes);
  if (!file) return hga::IoError("cannot read " + path);
  return ids;
}

hga::Status WriteFloats(const std::string& path, std::span<const float> values) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size_bytes()));
  file.close();
  return file ? hga::OkStatus() : hga::IoError("cannot write " + path);
}

hga::Status Run(const std::string& directory) {
  HGA_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ReadIds(directory + "/ids.bin"));
  HGA_ASSIGN_OR_RETURN(const hga::AttentionConfig dense, hga::PresetConfig("dense"));
  hga::EngineOptions options;
  options.threads = 1;
  HGA_ASSIGN_OR_RETURN(const auto engine, hga::Engine::Open(directory, options));
  HGA_ASSIGN_OR_RETURN(const auto sequence,
                       engine->NewSequence(dense, static_cast<int64_t>(ids.size())));
  std::vector<float> logits(ids.size() * static_cast<size_t>(engine->info().vocab));
  HGA_RETURN_IF_ERROR(engine->Feed(*sequence, ids, hga::LogitsWanted::kAll, logits, {}));
  return WriteFloats(directory + "/logits.bin", logits);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY...\n", argv[0]);
    return 2;
  }
  for (int i = 1; i < argc; ++i) {
    const hga::Status status = Run(argv[i]);
    if (status.ok()) continue;
    std::fprintf(stderr, "error: %s: %s\n", argv[i], status.message().c_str());
    return 1;
  }
  return 0;
}
