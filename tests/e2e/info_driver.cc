// SPDX-License-Identifier: Apache-2.0
// The checkpoint readers behind a command line of their own, so that malformed_models.py can drive
// them without the engine: info_driver [--check] DIRECTORY_OR_ID [REVISION]. Exit codes as `hga`:
// 0 good, 1 refused, 2 wrong usage.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "hga/engine.h"
#include "model/model_config.h"

namespace {

int Refuse(const hga::Status& status) {
  std::fprintf(stderr, "error: %s\n", status.message().c_str());
  return 1;
}

int Run(const std::string& model, const std::string& revision, bool check) {
  const auto directory = hga::ResolveModel(model, revision);
  if (!directory.ok()) return Refuse(directory.status());
  const auto info = hga::ReadModelInfo(*directory);
  if (!info.ok()) return Refuse(info.status());
  const auto defaults = hga::ReadGenerationDefaults(*directory);
  if (!defaults.ok()) return Refuse(defaults.status());
  if (check) {
    const hga::Status status = hga::CheckModel(*directory, {});
    if (!status.ok()) return Refuse(status);
  }
  std::printf("%s %s: %d layers, %lld parameters, %lld bytes in %lld tensors and %d files\n",
              info->family.c_str(), info->weight_format.c_str(), info->layers,
              static_cast<long long>(info->parameters), static_cast<long long>(info->weight_bytes),
              static_cast<long long>(info->tensors), info->shards);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  bool check = false;
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--check") == 0) {
      check = true;
    } else {
      words.emplace_back(argv[i]);
    }
  }
  if (words.empty() || words.size() > 2) {
    std::fprintf(stderr, "usage: %s [--check] DIRECTORY_OR_ID [REVISION]\n", argv[0]);
    return 2;
  }
  return Run(words[0], words.size() == 2 ? words[1] : "", check);
}
