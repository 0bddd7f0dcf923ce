// SPDX-License-Identifier: Apache-2.0
// Looks Hugging Face model ids up in the folder layout of huggingface_hub.
#include "model/hf_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "base/file.h"

namespace hga {
namespace {

constexpr int64_t kMaxRefBytes = 256;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string ExpandHome(const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  return Environment("HOME") + path.substr(1);
}

bool IsIdPart(std::string_view part) {
  if (part.empty() || part.size() > 96 || part.front() == '.' || part.front() == '-' ||
      part.back() == '.' || part.back() == '-' || part.find("--") != part.npos ||
      part.find("..") != part.npos) {
    return false;
  }
  return std::all_of(part.begin(), part.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '-';
  });
}

bool IsCommit(std::string_view text) {
  return text.size() == 40 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// "main", "v1.0", "refs/pr/3": parts that can't leave the refs folder.
bool IsRevision(std::string_view text) {
  if (text.empty() || text.size() > 200) return false;
  while (true) {
    const size_t slash = text.find('/');
    const std::string_view part = text.substr(0, slash);
    const bool plain =
        !part.empty() && part.front() != '.' && std::all_of(part.begin(), part.end(), [](char c) {
          return static_cast<unsigned char>(c) > 0x20 && c != 0x7F && c != '\\';
        });
    if (!plain) return false;
    if (slash == text.npos) return true;
    text.remove_prefix(slash + 1);
  }
}

Status NotDownloaded(const std::string& cache, const std::string& id, const std::string& revision) {
  const std::string flag = revision == "main" ? "" : " --revision " + revision;
  return NotFound(
      fmt::format("model {}, revision {}, is not in the Hugging Face cache {}; run: hf "
                  "download {}{}",
                  Quoted(id), Quoted(revision), Quoted(cache), id, flag));
}

// The commit a branch or tag points to.
Result<std::string> ReadRef(const std::string& model, const std::string& revision) {
  const size_t slash = revision.rfind('/');
  const std::string folder =
      slash == revision.npos ? model + "/refs" : model + "/refs/" + revision.substr(0, slash);
  const std::string name = slash == revision.npos ? revision : revision.substr(slash + 1);
  HGA_ASSIGN_OR_RETURN(std::string text, ReadSmallFile(folder, name, kMaxRefBytes));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) {
    text.pop_back();
  }
  if (IsCommit(text)) return text;
  return DataLoss(fmt::format("{}: holds {}, a commit of 40 hexadecimal digits is needed",
                              Quoted(folder + "/" + name), Quoted(text)));
}

}  // namespace

std::string HuggingFaceCacheDirectory() {
  if (const std::string hub = Environment("HF_HUB_CACHE"); !hub.empty()) return ExpandHome(hub);
  if (const std::string home = Environment("HF_HOME"); !home.empty()) {
    return ExpandHome(home) + "/hub";
  }
  if (const std::string cache = Environment("XDG_CACHE_HOME"); !cache.empty()) {
    return ExpandHome(cache) + "/huggingface/hub";
  }
  if (const std::string home = Environment("HOME"); !home.empty()) {
    return home + "/.cache/huggingface/hub";
  }
  return "";
}

bool IsModelId(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == text.npos) return IsIdPart(text);
  return IsIdPart(text.substr(0, slash)) && IsIdPart(text.substr(slash + 1));
}

Result<std::string> ResolveInCache(const std::string& cache, const std::string& id,
                                   const std::string& revision_or_empty) {
  const std::string revision = revision_or_empty.empty() ? "main" : revision_or_empty;
  if (!IsModelId(id)) {
    return InvalidArgument(fmt::format("{} is no model id (NAME or ORG/NAME)", Quoted(id)));
  }
  if (!IsRevision(revision)) {
    return InvalidArgument(
        fmt::format("{} is no revision (a branch, a tag or a commit)", Quoted(revision)));
  }
  std::string folder = id;
  if (const size_t slash = folder.find('/'); slash != folder.npos) folder.replace(slash, 1, "--");
  const std::string model = fmt::format("{}/models--{}", cache, folder);
  std::string commit = revision;
  if (!IsCommit(revision)) {
    Result<std::string> ref = ReadRef(model, revision);
    if (ref.status().code() == StatusCode::kNotFound) return NotDownloaded(cache, id, revision);
    if (!ref.ok()) return ref.status();
    commit = *ref;
  }
  std::string snapshot = fmt::format("{}/snapshots/{}", model, commit);
  const Status found = CheckDirectory(snapshot);
  if (found.code() == StatusCode::kNotFound) return NotDownloaded(cache, id, revision);
  HGA_RETURN_IF_ERROR(found);
  return snapshot;
}

}  // namespace hga
