// SPDX-License-Identifier: Apache-2.0
// Opens checkpoint directories: which files make up the model, and where each tensor lies.
#include "model/checkpoint.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <new>
#include <optional>

#include "base/check.h"
#include "base/dtype.h"
#include "model/json_scan.h"

namespace hga {
namespace {

namespace od = simdjson::ondemand;

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";

bool IsShardName(std::string_view name) {
  constexpr std::string_view kEnding = ".safetensors";
  if (name.size() <= kEnding.size() || name.size() > 255 || !name.ends_with(kEnding)) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return c != '/' && c != '\\' && static_cast<unsigned char>(c) >= 0x20 && c != 0x7F;
  });
}

class IndexParser {
 public:
  IndexParser(const simdjson::padded_string& json, const std::string& file)
      : scan_(json, 0, file), file_(file) {}

  Result<ShardIndex> Run() {
    HGA_ASSIGN_OR_RETURN(od::object root, scan_.Root());
    bool seen_map = false, seen_metadata = false;
    for (auto entry : root) {
      std::string_view key;
      od::value value;
      if (const auto code = entry.unescaped_key().get(key)) return scan_.Syntax("key", code);
      if (const auto code = entry.value().get(value)) return scan_.Syntax(Quoted(key), code);
      bool* seen = key == "weight_map" ? &seen_map : key == "metadata" ? &seen_metadata : nullptr;
      if (seen == nullptr) {
        HGA_RETURN_IF_ERROR(scan_.Skip(value, 64));
        continue;
      }
      if (*seen) return scan_.Error(fmt::format("{} appears twice", key));
      *seen = true;
      HGA_RETURN_IF_ERROR(seen == &seen_map ? ParseMap(value) : ParseMetadata(value));
    }
    HGA_RETURN_IF_ERROR(scan_.Finish());
    if (!seen_map) return DataLoss(fmt::format("{}: weight_map is missing", Quoted(file_)));
    return Finish();
  }

 private:
  Status ParseMetadata(od::value value) {
    od::object object;
    if (value.get_object().get(object)) return scan_.Error("metadata: an object is needed");
    for (auto entry : object) {
      std::string_view key;
      od::value item;
      if (const auto code = entry.unescaped_key().get(key)) return scan_.Syntax("metadata", code);
      if (const auto code = entry.value().get(item)) return scan_.Syntax("metadata", code);
      if (key != "total_size") {
        HGA_RETURN_IF_ERROR(scan_.Skip(item, 64));
        continue;
      }
      double size = 0;  // some writers spell it as 1.0e9
      if (item.get_double().get(size) || !(size >= 0) || size > 1e18 || size != std::floor(size)) {
        return scan_.Error("metadata.total_size: a whole number from 0 to 1e18 is needed");
      }
    }
    return OkStatus();
  }

  Status ParseMap(od::value value) {
    od::object object;
    if (value.get_object().get(object)) return scan_.Error("weight_map: an object is needed");
    for (auto entry : object) {
      std::string_view name, shard;
      if (const auto code = entry.unescaped_key().get(name))
        return scan_.Syntax("weight_map", code);
      if (const auto code = entry.value().get_string().get(shard)) {
        return code == simdjson::INCORRECT_TYPE
                   ? scan_.Error(fmt::format("weight_map.{}: a file name is needed", Quoted(name)))
                   : scan_.Syntax("weight_map", code);
      }
      if (!IsShardName(shard)) {
        return scan_.Error(fmt::format(
            "weight_map.{}: {} is not a plain file name that ends in .safetensors (only files in "
            "the model directory itself are read)",
            Quoted(name), Quoted(shard)));
      }
      if (name.empty() || name.size() > kMaxNameBytes) {
        return scan_.Error(fmt::format("weight_map: tensor name {} has {} bytes, 1 to {} allowed",
                                       Quoted(name), name.size(), kMaxNameBytes));
      }
      if (static_cast<int64_t>(index_.weight_map.size()) == kMaxTensors) {
        return scan_.Error(fmt::format("weight_map: more than {} tensors", kMaxTensors));
      }
      HGA_RETURN_IF_ERROR(Add(name, shard));
    }
    return OkStatus();
  }

  Status Add(std::string_view name, std::string_view shard) {
    auto& names = index_.shard_names;
    // Neighbours in the map mostly share a shard; new shards are few (at most kMaxShards).
    if (last_ >= names.size() || names[last_] != shard) {
      last_ = static_cast<size_t>(std::find(names.begin(), names.end(), shard) - names.begin());
      if (last_ == names.size()) {
        if (last_ == kMaxShards) {
          return scan_.Error(fmt::format("weight_map: more than {} files", kMaxShards));
        }
        names.emplace_back(shard);
      }
    }
    index_.weight_map.emplace_back(name, static_cast<int>(last_));
    return OkStatus();
  }

  // Sorts the shard names and checks that no tensor is listed twice.
  Result<ShardIndex> Finish() {
    const std::vector<std::string> unsorted = index_.shard_names;
    std::sort(index_.shard_names.begin(), index_.shard_names.end());
    std::vector<int> place;
    for (const std::string& name : unsorted) {
      place.push_back(static_cast<int>(
          std::lower_bound(index_.shard_names.begin(), index_.shard_names.end(), name) -
          index_.shard_names.begin()));
    }
    for (auto& [name, shard] : index_.weight_map) shard = place[static_cast<size_t>(shard)];
    std::sort(index_.weight_map.begin(), index_.weight_map.end());
    const auto twice =
        std::adjacent_find(index_.weight_map.begin(), index_.weight_map.end(),
                           [](const auto& a, const auto& b) { return a.first == b.first; });
    if (twice != index_.weight_map.end()) {
      return DataLoss(fmt::format("{}: weight_map has {} twice, in {} and {}", Quoted(file_),
                                  Quoted(twice->first),
                                  index_.shard_names[static_cast<size_t>(twice->second)],
                                  index_.shard_names[static_cast<size_t>(twice[1].second)]));
    }
    if (index_.weight_map.empty()) {
      return DataLoss(fmt::format("{}: weight_map is empty", Quoted(file_)));
    }
    return std::move(index_);
  }

  JsonScan scan_;
  const std::string& file_;
  ShardIndex index_;
  size_t last_ = 0;
};

// Why there is nothing to load, in terms of the files that are there.
Status NoWeights(const std::string& directory) {
  std::string pickle, other;
  for (const std::string& name : ListDirectory(directory)) {
    const auto ends = [&](std::string_view ending) { return name.ends_with(ending); };
    if (ends(".bin") || ends(".pt") || ends(".pth") || ends(".ckpt") || ends(".pkl")) {
      if (pickle.empty()) pickle = name;
    } else if (ends(".gguf") || ends(".safetensors") || ends(".onnx") || ends(".h5")) {
      if (other.empty()) other = name;
    }
  }
  std::string text =
      fmt::format("{}: holds neither {} nor {}", Quoted(directory), kSingleFile, kIndexFile);
  if (!pickle.empty()) {
    text += fmt::format(
        "; {} is a Python pickle, which can run code when it is read and is never opened: convert "
        "the model to safetensors",
        Quoted(pickle));
    return Unsupported(std::move(text));
  }
  if (!other.empty()) text += fmt::format("; {} is there, but is not read", Quoted(other));
  return NotFound(std::move(text));
}

bool Exists(const std::vector<std::string>& names, std::string_view name) {
  return std::binary_search(names.begin(), names.end(), name);
}

}  // namespace

Result<ShardIndex> ParseShardIndex(std::string_view json, const std::string& file_name) {
  try {
    return IndexParser(simdjson::padded_string(json), file_name).Run();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(
        fmt::format("{}: no memory to read {} bytes of JSON", Quoted(file_name), json.size()));
  }
}

Result<Checkpoint> Checkpoint::Open(const std::string& directory) {
  HGA_RETURN_IF_ERROR(CheckDirectory(directory));
  const std::vector<std::string> names = ListDirectory(directory);
  const bool single = Exists(names, kSingleFile), indexed = Exists(names, kIndexFile);
  if (!single && !indexed) return NoWeights(directory);
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  ShardIndex index;
  if (indexed) {
    HGA_ASSIGN_OR_RETURN(const std::string json,
                         ReadSmallFile(directory, kIndexFile, kMaxIndexBytes));
    HGA_ASSIGN_OR_RETURN(index, ParseShardIndex(json, fmt::format("{}/{}", directory, kIndexFile)));
    if (single && !Exists(index.shard_names, kSingleFile)) {
      return InvalidArgument(
          fmt::format("{}: holds both {} and {}, which does not list it: remove one of them",
                      Quoted(directory), kSingleFile, kIndexFile));
    }
  } else {
    index.shard_names.emplace_back(kSingleFile);
  }
  HGA_RETURN_IF_ERROR(checkpoint.OpenShards(index.shard_names));
  HGA_RETURN_IF_ERROR(checkpoint.BuildTable());
  HGA_RETURN_IF_ERROR(checkpoint.CheckIndex(index));
  return checkpoint;
}

Status Checkpoint::OpenShards(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    HGA_ASSIGN_OR_RETURN(File file, File::OpenIn(directory_, name));
    HGA_ASSIGN_OR_RETURN(std::vector<TensorInfo> tensors, ReadSafetensorsHeader(file));
    if (static_cast<int64_t>(tensors_.size() + tensors.size()) > kMaxTensors) {
      return DataLoss(
          fmt::format("{}: more than {} tensors in all", Quoted(directory_), kMaxTensors));
    }
    for (TensorInfo& tensor : tensors) {
      tensor.shard = static_cast<int>(files_.size());
      total_bytes_ += tensor.bytes;
    }
    if (tensors_.empty()) {
      tensors_ = std::move(tensors);
    } else {
      std::move(tensors.begin(), tensors.end(), std::back_inserter(tensors_));
    }
    files_.push_back(std::move(file));
  }
  return OkStatus();
}

Status Checkpoint::BuildTable() {
  by_name_ = BuildNameTable(tensors_);
  const auto [first, second] = FindDuplicate(by_name_, tensors_);
  if (first < 0) return OkStatus();
  const TensorInfo& a = tensors_[static_cast<size_t>(first)];
  return DataLoss(fmt::format("tensor {} is in two files, {} and {}", Quoted(a.name),
                              Quoted(ShardPath(a)),
                              Quoted(ShardPath(tensors_[static_cast<size_t>(second)]))));
}

// Every tensor the index lists must be in the file it names.
Status Checkpoint::CheckIndex(const ShardIndex& index) const {
  for (const auto& [name, shard] : index.weight_map) {
    const TensorInfo* tensor = Find(name);
    if (tensor != nullptr && tensor->shard == shard) continue;
    return DataLoss(fmt::format(
        "{}: weight_map puts tensor {} into {}, but {}",
        Quoted(fmt::format("{}/{}", directory_, kIndexFile)), Quoted(name),
        Quoted(index.shard_names[static_cast<size_t>(shard)]),
        tensor ? "it is in " + Quoted(ShardPath(*tensor)) : std::string("it is in no file")));
  }
  return OkStatus();
}

const TensorInfo* Checkpoint::Find(std::string_view name) const {
  const int32_t i = FindName(by_name_, tensors_, name);
  return i < 0 ? nullptr : &tensors_[static_cast<size_t>(i)];
}

Status Checkpoint::Read(const TensorInfo& tensor, void* out) const {
  return ReadPart(tensor, 0, tensor.bytes, out);
}

Status Checkpoint::ReadPart(const TensorInfo& tensor, int64_t first, int64_t bytes,
                            void* out) const {
  HGA_CHECK(tensor.shard >= 0 && tensor.shard < shards());
  HGA_CHECK(first >= 0 && bytes >= 0 && first <= tensor.bytes - bytes);
  const File& file = files_[static_cast<size_t>(tensor.shard)];
  const Status status = file.Read(tensor.offset + first, out, bytes);
  if (status.ok()) return status;
  return Status(status.code(),
                fmt::format("{} (tensor {})", status.message(), Quoted(tensor.name)));
}

}  // namespace hga
