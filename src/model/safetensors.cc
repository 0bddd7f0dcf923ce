// SPDX-License-Identifier: Apache-2.0
// Reads safetensors headers, refusing everything the format's own rules refuse and a few things
// more (repeated names, control characters in names, absurd ranks and sizes).
#include "model/safetensors.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <new>
#include <optional>

#include "model/json_scan.h"

namespace hga {
namespace {

namespace od = simdjson::ondemand;

struct DtypeRow {
  std::string_view name;
  int bits;
};
// In the order of StoredDtype.
constexpr std::array<DtypeRow, 22> kDtypes = {
    {{"BOOL", 8},    {"U8", 8},      {"I8", 8},          {"I16", 16},        {"U16", 16},
     {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
     {"F64", 64},    {"I64", 64},    {"U64", 64},        {"C64", 64},        {"F8_E4M3", 8},
     {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6},
     {"F6_E3M2", 6}, {"F4", 4}}};

constexpr int64_t kLengthField = 8;   // bytes before the header
constexpr int kMaxUnknownDepth = 64;  // of fields this reader does not know
constexpr int64_t kMaxElements = int64_t{1} << 56;

std::optional<StoredDtype> DtypeOf(std::string_view name) {
  for (size_t i = 0; i < kDtypes.size(); ++i) {
    if (kDtypes[i].name == name) return static_cast<StoredDtype>(i);
  }
  return std::nullopt;
}

// A field's name; the three usual ones without taking memory for the unescaped text.
simdjson::error_code FieldName(od::field& field, std::string_view* name) {
  for (const std::string_view usual : {"dtype", "shape", "data_offsets"}) {
    if (field.key().unsafe_is_equal(usual)) {
      *name = usual;
      return simdjson::SUCCESS;
    }
  }
  return field.unescaped_key().get(*name);
}

bool HasControlCharacter(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

class HeaderParser {
 public:
  HeaderParser(const simdjson::padded_string& json, int64_t data_bytes, const std::string& file)
      : scan_(json, kLengthField, file),
        file_(file),
        data_start_(kLengthField + static_cast<int64_t>(json.size())),
        data_bytes_(data_bytes) {}

  Result<std::vector<TensorInfo>> Run() {
    HGA_RETURN_IF_ERROR(ParseEntries());
    HGA_RETURN_IF_ERROR(CheckNames());
    HGA_RETURN_IF_ERROR(CheckRanges());
    return std::move(tensors_);
  }

 private:
  Status ParseEntries();
  Status ParseMetadata(od::object object);
  Status ParseTensor(od::object object, TensorInfo* tensor);
  Status ParseField(std::string_view key, od::value value, TensorInfo* tensor);
  Status ParseShape(od::value value, TensorInfo* tensor);
  Status ParseOffsets(od::value value, TensorInfo* tensor);
  Status ParseCount(od::value value, std::string_view field, int64_t limit, int64_t* out);
  Status CheckSize(const TensorInfo& tensor);
  Status CheckNames() const;
  Status CheckRanges();
  std::string At(std::string_view field) const {
    return fmt::format("tensor {}, {}", Quoted(*name_), field);
  }

  JsonScan scan_;
  const std::string& file_;
  int64_t data_start_;
  int64_t data_bytes_;
  std::vector<TensorInfo> tensors_;
  const std::string* name_ = nullptr;  // of the tensor being read
  bool seen_metadata_ = false;
  int seen_ = 0;  // fields of the tensor being read, as bits
  int64_t begin_ = 0, end_ = 0;
};

enum FieldBit { kDtypeBit = 1, kShapeBit = 2, kOffsetsBit = 4 };

Status HeaderParser::ParseEntries() {
  HGA_ASSIGN_OR_RETURN(od::object root, scan_.Root());
  for (auto entry : root) {
    std::string_view key;
    od::value value;
    od::object object;
    if (const auto code = entry.unescaped_key().get(key)) return scan_.Syntax("tensor name", code);
    if (const auto code = entry.value().get(value)) return scan_.Syntax(Quoted(key), code);
    if (const auto code = value.get_object().get(object)) {
      return code == simdjson::INCORRECT_TYPE
                 ? scan_.Error(fmt::format("{}: an object is needed here", Quoted(key)))
                 : scan_.Syntax(Quoted(key), code);
    }
    if (key == "__metadata__") {
      HGA_RETURN_IF_ERROR(ParseMetadata(object));
      continue;
    }
    if (key.empty() || key.size() > kMaxNameBytes || HasControlCharacter(key)) {
      return scan_.Error(fmt::format(
          "tensor name {} has {} bytes or a control character; 1 to {} bytes without are allowed",
          Quoted(key), key.size(), kMaxNameBytes));
    }
    if (static_cast<int64_t>(tensors_.size()) == kMaxTensors) {
      return scan_.Error(fmt::format("more than {} tensors", kMaxTensors));
    }
    TensorInfo tensor;
    tensor.name = key;
    HGA_RETURN_IF_ERROR(ParseTensor(object, &tensor));
    tensors_.push_back(std::move(tensor));
  }
  return scan_.Finish();
}

Status HeaderParser::ParseMetadata(od::object object) {
  if (seen_metadata_) return scan_.Error("__metadata__ appears twice");
  seen_metadata_ = true;
  std::vector<std::string_view> keys;  // they stay valid: simdjson keeps unescaped text
  for (auto entry : object) {
    std::string_view key, text;
    if (const auto code = entry.unescaped_key().get(key)) return scan_.Syntax("__metadata__", code);
    if (const auto code = entry.value().get_string().get(text)) {
      return code == simdjson::INCORRECT_TYPE
                 ? scan_.Error(fmt::format("__metadata__.{}: a string is needed", Quoted(key)))
                 : scan_.Syntax("__metadata__", code);
    }
    keys.push_back(key);
  }
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice == keys.end()) return OkStatus();
  return scan_.Error(fmt::format("__metadata__ has {} twice", Quoted(*twice)));
}

Status HeaderParser::ParseTensor(od::object object, TensorInfo* tensor) {
  name_ = &tensor->name;
  seen_ = 0;
  for (auto entry : object) {
    od::field field;
    if (const auto code = std::move(entry).get(field)) return scan_.Syntax(At("field"), code);
    std::string_view key;
    if (const auto code = FieldName(field, &key)) return scan_.Syntax(At("field"), code);
    HGA_RETURN_IF_ERROR(ParseField(key, field.value(), tensor));
  }
  for (const auto& [bit, field] : {std::pair(kDtypeBit, "dtype"), std::pair(kShapeBit, "shape"),
                                   std::pair(kOffsetsBit, "data_offsets")}) {
    if (!(seen_ & bit)) return scan_.Error(At(fmt::format("{} is missing", field)));
  }
  HGA_RETURN_IF_ERROR(CheckSize(*tensor));
  tensor->offset = data_start_ + begin_;
  tensor->bytes = end_ - begin_;
  return OkStatus();
}

Status HeaderParser::ParseField(std::string_view key, od::value value, TensorInfo* tensor) {
  const int bit = key == "dtype"          ? kDtypeBit
                  : key == "shape"        ? kShapeBit
                  : key == "data_offsets" ? kOffsetsBit
                                          : 0;
  if (bit == 0) return scan_.Skip(value, kMaxUnknownDepth);
  if (seen_ & bit) return scan_.Error(At(fmt::format("{} appears twice", key)));
  seen_ |= bit;
  if (bit == kShapeBit) return ParseShape(value, tensor);
  if (bit == kOffsetsBit) return ParseOffsets(value, tensor);
  std::string_view text;
  if (const auto code = value.get_string().get(text)) {
    return code == simdjson::INCORRECT_TYPE ? scan_.Error(At("dtype: a string is needed"))
                                            : scan_.Syntax(At("dtype"), code);
  }
  const auto dtype = DtypeOf(text);
  if (!dtype) return scan_.Error(At(fmt::format("unknown dtype {}", Quoted(text))));
  tensor->dtype = *dtype;
  return OkStatus();
}

// A whole number without fraction or exponent, 0 to `limit`.
Status HeaderParser::ParseCount(od::value value, std::string_view field, int64_t limit,
                                int64_t* out) {
  uint64_t number = 0;
  if (value.get_uint64().get(number)) {
    return scan_.Error(At(fmt::format("{}: a whole number from 0 to {} is needed", field, limit)));
  }
  if (number > static_cast<uint64_t>(limit)) {
    return scan_.Error(At(fmt::format("{}: {} is more than {}", field, number, limit)));
  }
  *out = static_cast<int64_t>(number);
  return OkStatus();
}

Status HeaderParser::ParseShape(od::value value, TensorInfo* tensor) {
  od::array array;
  if (value.get_array().get(array)) return scan_.Error(At("shape: a list is needed"));
  for (auto entry : array) {
    od::value item;
    int64_t dim = 0;
    if (const auto code = entry.get(item)) return scan_.Syntax(At("shape"), code);
    if (tensor->shape.size() == kMaxRank) {
      return scan_.Error(At(fmt::format("shape: more than {} dimensions", kMaxRank)));
    }
    HGA_RETURN_IF_ERROR(ParseCount(item, "shape", kMaxDim, &dim));
    tensor->shape.push_back(dim);
  }
  return OkStatus();
}

Status HeaderParser::ParseOffsets(od::value value, TensorInfo* tensor) {
  od::array array;
  if (value.get_array().get(array)) return scan_.Error(At("data_offsets: a list is needed"));
  int64_t pair[2] = {0, 0};
  int count = 0;
  for (auto entry : array) {
    od::value item;
    if (const auto code = entry.get(item)) return scan_.Syntax(At("data_offsets"), code);
    if (count == 2) return scan_.Error(At("data_offsets: more than 2 numbers"));
    HGA_RETURN_IF_ERROR(ParseCount(item, "data_offsets", data_bytes_, &pair[count++]));
  }
  if (count != 2) return scan_.Error(At(fmt::format("data_offsets: {} numbers, not 2", count)));
  if (pair[0] > pair[1]) {
    return scan_.Error(At(fmt::format("data_offsets: begin {} > end {}", pair[0], pair[1])));
  }
  begin_ = pair[0];
  end_ = pair[1];
  return OkStatus();
}

// The byte range must be the size of the shape. Zero dimensions don't excuse an overflow of the
// others.
Status HeaderParser::CheckSize(const TensorInfo& tensor) {
  int64_t product = 1;
  bool empty = false;
  for (const int64_t dim : tensor.shape) {
    if (dim == 0) {
      empty = true;
    } else if (product > kMaxElements / dim) {
      return scan_.Error(At(fmt::format("shape {} has more than {} elements",
                                        ShapeText(tensor.shape), kMaxElements)));
    } else {
      product *= dim;
    }
  }
  const int64_t bits = empty ? 0 : product * DtypeBits(tensor.dtype);
  if (bits % 8 != 0) {
    return scan_.Error(At(fmt::format("shape {} of {} takes {} bits, not whole bytes",
                                      ShapeText(tensor.shape), DtypeName(tensor.dtype), bits)));
  }
  if (bits / 8 == end_ - begin_) return OkStatus();
  return scan_.Error(At(
      fmt::format("data_offsets [{}, {}] hold {} bytes, but shape {} of {} takes {}", begin_, end_,
                  end_ - begin_, ShapeText(tensor.shape), DtypeName(tensor.dtype), bits / 8)));
}

Status HeaderParser::CheckNames() const {
  const auto [first, second] = FindDuplicate(BuildNameTable(tensors_), tensors_);
  if (first < 0) return OkStatus();
  const TensorInfo& a = tensors_[static_cast<size_t>(first)];
  const TensorInfo& b = tensors_[static_cast<size_t>(second)];
  return DataLoss(fmt::format("{}: tensor {} appears twice, at bytes {} and {}", Quoted(file_),
                              Quoted(a.name), a.offset, b.offset));
}

Status HeaderParser::CheckRanges() {
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) {
    if (a.offset != b.offset) return a.offset < b.offset;
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.name < b.name;
  });
  int64_t expected = data_start_;
  for (const TensorInfo& tensor : tensors_) {
    if (tensor.offset != expected) {
      return DataLoss(
          fmt::format("{}: tensor {} begins at byte {}, but the bytes before it end at {} "
                      "({})",
                      Quoted(file_), Quoted(tensor.name), tensor.offset, expected,
                      tensor.offset > expected ? "a hole" : "an overlap"));
    }
    expected += tensor.bytes;
  }
  if (expected == data_start_ + data_bytes_) return OkStatus();
  return DataLoss(fmt::format("{}: the tensors end at byte {}, but the file has {} bytes",
                              Quoted(file_), expected, data_start_ + data_bytes_));
}

}  // namespace

std::string_view DtypeName(StoredDtype dtype) { return kDtypes[static_cast<size_t>(dtype)].name; }
int DtypeBits(StoredDtype dtype) { return kDtypes[static_cast<size_t>(dtype)].bits; }

int64_t TensorInfo::elements() const {
  int64_t product = 1;
  for (const int64_t dim : shape) {
    if (dim == 0) return 0;
  }
  for (const int64_t dim : shape) product *= dim;
  return product;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Result<std::vector<TensorInfo>> ParseSafetensorsHeader(std::string_view header_json,
                                                       int64_t data_bytes,
                                                       const std::string& file_name) {
  if (data_bytes < 0 || static_cast<int64_t>(header_json.size()) > kMaxHeaderBytes) {
    return DataLoss(fmt::format("{}: a header of {} bytes before {} bytes of data (at most {})",
                                Quoted(file_name), header_json.size(), data_bytes,
                                kMaxHeaderBytes));
  }
  try {
    return HeaderParser(simdjson::padded_string(header_json), data_bytes, file_name).Run();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(fmt::format("{}: no memory for its header of {} bytes",
                                         Quoted(file_name), header_json.size()));
  }
}

Result<std::vector<TensorInfo>> ReadSafetensorsHeader(const File& file) {
  if (file.size() < kLengthField) {
    return DataLoss(fmt::format("{}: has {} bytes, a safetensors file has at least {}",
                                Quoted(file.path()), file.size(), kLengthField));
  }
  uint8_t field[kLengthField];
  HGA_RETURN_IF_ERROR(file.Read(0, field, kLengthField));
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | field[i];
  const int64_t rest = file.size() - kLengthField;
  if (length > static_cast<uint64_t>(std::min(rest, kMaxHeaderBytes)) || length == 0) {
    return DataLoss(
        fmt::format("{}, byte 0: header length {}, but 1 to {} are possible (the file "
                    "has {} bytes, a header at most {})",
                    Quoted(file.path()), length, std::min(rest, kMaxHeaderBytes), file.size(),
                    kMaxHeaderBytes));
  }
  try {
    simdjson::padded_string text(length);
    if (text.data() == nullptr) throw std::bad_alloc();
    HGA_RETURN_IF_ERROR(file.Read(kLengthField, text.data(), static_cast<int64_t>(length)));
    return HeaderParser(text, rest - static_cast<int64_t>(length), file.path()).Run();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(
        fmt::format("{}: no memory for its header of {} bytes", Quoted(file.path()), length));
  }
}

NameTable BuildNameTable(std::span<const TensorInfo> tensors) {
  NameTable table;
  table.reserve(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    table.emplace_back(std::hash<std::string_view>()(tensors[i].name), static_cast<int32_t>(i));
  }
  const auto name = [&](int32_t i) -> std::string_view {
    return tensors[static_cast<size_t>(i)].name;
  };
  std::sort(table.begin(), table.end(), [&](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : name(a.second) < name(b.second);
  });
  return table;
}

int32_t FindName(const NameTable& table, std::span<const TensorInfo> tensors,
                 std::string_view name) {
  const uint64_t hash = std::hash<std::string_view>()(name);
  const auto less = [&](const auto& row, std::string_view wanted) {
    if (row.first != hash) return row.first < hash;
    return std::string_view(tensors[static_cast<size_t>(row.second)].name) < wanted;
  };
  const auto row = std::lower_bound(table.begin(), table.end(), name, less);
  if (row == table.end() || tensors[static_cast<size_t>(row->second)].name != name) return -1;
  return row->second;
}

std::pair<int32_t, int32_t> FindDuplicate(const NameTable& table,
                                          std::span<const TensorInfo> tensors) {
  const auto twice =
      std::adjacent_find(table.begin(), table.end(), [&](const auto& a, const auto& b) {
        return a.first == b.first && tensors[static_cast<size_t>(a.second)].name ==
                                         tensors[static_cast<size_t>(b.second)].name;
      });
  if (twice == table.end()) return {-1, -1};
  return std::minmax(twice->second, std::next(twice)->second);
}

}  // namespace hga
