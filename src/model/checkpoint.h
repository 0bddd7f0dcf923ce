// SPDX-License-Identifier: Apache-2.0
// A Hugging Face checkpoint directory: one safetensors file or an index over shards, all headers
// read and checked, weights read on demand.
#ifndef HGA_MODEL_CHECKPOINT_H_
#define HGA_MODEL_CHECKPOINT_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "hga/status.h"
#include "model/safetensors.h"

namespace hga {

inline constexpr int kMaxShards = 512;
inline constexpr int64_t kMaxIndexBytes = 100'000'000;

// tensor name -> index into shard_names.
struct ShardIndex {
  std::vector<std::string> shard_names;                 // sorted, unique, checked to be plain names
  std::vector<std::pair<std::string, int>> weight_map;  // unique names
};

// Reads model.safetensors.index.json. kDataLoss or kInvalidArgument name the entry.
// metadata.total_size must be a whole number, but is only informative (tied or converted
// checkpoints carry stale ones).
Result<ShardIndex> ParseShardIndex(std::string_view json, const std::string& file_name);

// Move-only. All shards stay open; const functions are thread-safe.
class Checkpoint {
 public:
  // Opens model.safetensors, or every shard of model.safetensors.index.json, and reads all headers.
  // No weights are read.
  static Result<Checkpoint> Open(const std::string& directory);

  // nullptr if absent. Logarithmic in the number of tensors (a sorted table of hashes, so that
  // chosen names can't make it slow).
  const TensorInfo* Find(std::string_view name) const;
  std::span<const TensorInfo> tensors() const { return tensors_; }  // by shard, then offset
  int shards() const { return static_cast<int>(files_.size()); }
  int64_t total_bytes() const { return total_bytes_; }  // of all tensors
  const std::string& directory() const { return directory_; }
  const std::string& ShardPath(const TensorInfo& tensor) const {
    return files_[static_cast<size_t>(tensor.shard)].path();
  }

  // Reads the stored bytes of a tensor of this checkpoint into out [tensor.bytes].
  Status Read(const TensorInfo& tensor, void* out) const;
  // The part [first, first + bytes) of the tensor's bytes into out [bytes].
  Status ReadPart(const TensorInfo& tensor, int64_t first, int64_t bytes, void* out) const;

 private:
  Checkpoint() = default;
  Status OpenShards(const std::vector<std::string>& names);
  Status BuildTable();
  Status CheckIndex(const ShardIndex& index) const;

  std::string directory_;
  std::vector<File> files_;
  std::vector<TensorInfo> tensors_;
  NameTable by_name_;
  int64_t total_bytes_ = 0;
};

// Looks for values no weight may have in data [bytes], a whole number of elements of `tensor`
// starting at element `first`: NaN or infinity; zero or negative too if the tensor is a scale (name
// ends in "_scale_inv"). kDataLoss names `path`, the tensor, the element and the value.
Status CheckValues(const TensorInfo& tensor, const std::string& path, const void* data,
                   int64_t bytes, int64_t first);

}  // namespace hga

#endif  // HGA_MODEL_CHECKPOINT_H_
