// SPDX-License-Identifier: Apache-2.0
// What tests of sessions share: places to put them, states and records that depend on a seed, and
// hands that change files behind the store's back.
#ifndef HGA_TESTS_UNIT_SESSION_FIXTURE_H_
#define HGA_TESTS_UNIT_SESSION_FIXTURE_H_

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "spec/layout.h"
#include "store/index_entry.h"
#include "store/io_file.h"
#include "store/io_files.h"
#include "store/io_queue.h"
#include "store/rigs/sim_disk.h"
#include "store/session.h"
#include "store/session_dir.h"
#include "tests/unit/io_fixture.h"

namespace hga {

inline constexpr HistoryShape kShape = {.layers = 3, .kv_heads = 2, .head_dim = 32};
inline constexpr StoreId kStoreId = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
// Its index entries take 256 bytes and those of a chunk 768: they lie across pages.
inline constexpr int64_t kEntry = 256;

inline SessionIdentity MakeIdentity() {
  SessionIdentity identity;
  identity.config.fill(0xC0);
  identity.tokenizer.fill(0x70);
  identity.weights.fill(0xEE);
  identity.shape = kShape;
  return identity;
}

// Tokens and all else depend on the seed; equal seeds share tokens from the first on.
inline SessionState MakeState(int64_t tokens, uint64_t seed) {
  SessionState state;
  for (int64_t i = 0; i < tokens; ++i) {
    state.tokens.push_back(static_cast<int32_t>((i * 7919 + static_cast<int64_t>(seed)) % 50000));
  }
  const int64_t prompt = tokens / 3;
  if (prompt > 0) state.spans.push_back({prompt, 1});
  if (tokens > prompt) state.spans.push_back({1, tokens - prompt});
  if (prompt > 0) state.rules.push_back({prompt, "preset=default"});
  if (tokens > prompt) state.rules.push_back({tokens - prompt, "preset=dense"});
  state.sampler.assign(37, static_cast<std::byte>(seed));
  state.extra = "turns " + std::to_string(tokens);
  state.saved_at = 1'800'000'000 + tokens;
  if (tokens % spec::kChunk != 0) {
    state.tail.resize(static_cast<size_t>(kShape.layers * RecordBytes(kShape)));
    FillPattern(state.tail, tokens, seed);
  }
  return state;
}

// Writes records [first, end) of a history with this seed and enters them into the table.
inline Status WriteRecords(IoBackend* io, int file, uint64_t seed, uint64_t generation,
                           int64_t first, int64_t end, RecordTable* table) {
  if (table->chunks() < end) table->Resize(end);
  const IoMemory memory(RecordBytes(table->shape()));
  const size_t cell = static_cast<size_t>(CellBytes(table->shape()));
  IoQueue queue(io);
  for (int64_t chunk = first; chunk < end; ++chunk) {
    for (int layer = 0; layer < table->shape().layers; ++layer) {
      const int64_t offset = RecordOffset(table->shape(), chunk, layer);
      FillPattern(memory.all(), offset, seed);
      const std::span<uint64_t> sums = table->sums(chunk, layer);
      for (size_t i = 0; i < sums.size(); ++i) {
        sums[i] = CellSum(memory.all().subspan(i * cell, cell));
      }
      table->generation(chunk, layer) = generation;
      queue.Add(IoOp::kWrite, file, offset, memory.all());
      IoDone done;
      if (queue.Wait({&done, 1}, 1) != 1 || done.error != 0) {
        return FileError("records", "writing", done.error);
      }
    }
  }
  return OkStatus();
}

// A session being written, as its owner would.
struct Writer {
  SessionFiles files;
  RecordTable table{kShape};
  uint64_t seed = 1;

  // Grows to `tokens` and publishes that.
  Status Save(IoBackend* io, int64_t tokens) {
    const int64_t from = files.acknowledged_length() / spec::kChunk;
    const int64_t closed = tokens / spec::kChunk;
    if (closed <= from) return files.Checkpoint(MakeState(tokens, seed), table, from, from);
    HGA_RETURN_IF_ERROR(
        WriteRecords(io, files.data_file(), seed, files.next_generation(), from, closed, &table));
    return files.Checkpoint(MakeState(tokens, seed), table, from, closed);
  }
};

inline Result<Writer> StartSession(IoBackend* io, const std::string& root, const std::string& name,
                                   uint64_t seed, const StoreId& id = kStoreId) {
  Result<SessionFiles> files = SessionFiles::Create(io, root, name, MakeIdentity(), id);
  if (!files.ok()) return files.status();
  return Writer{std::move(*files), RecordTable(kShape), seed};
}

// A session with one checkpoint after another, closed again.
inline void MakeSession(IoBackend* io, const std::string& root, const std::string& name,
                        uint64_t seed, const std::vector<int64_t>& lengths,
                        const StoreId& id = kStoreId) {
  Result<Writer> writer = StartSession(io, root, name, seed, id);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  for (const int64_t length : lengths) {
    const Status status = writer->Save(io, length);
    ASSERT_TRUE(status.ok()) << status.message();
  }
}

inline std::string FileOf(const std::string& root, const std::string& session,
                          std::string_view file) {
  return Joined(Joined(root, SessionDirectoryName(session)), file);
}

// Bytes of whole sectors, read and changed behind the store's back.
inline std::vector<std::byte> Peek(IoBackend* io, const std::string& path, int64_t offset,
                                   int64_t bytes) {
  const IoMemory memory(bytes);
  const Result<IoFile> file = IoFile::Open(io, path, OpenMode::kRead);
  EXPECT_TRUE(file.ok()) << file.status().message();
  if (file.ok()) {
    const Status status = file->Read(offset, memory.part(0, bytes));
    EXPECT_TRUE(status.ok()) << status.message();
  }
  return {memory.data(), memory.data() + bytes};
}
inline void Poke(IoBackend* io, const std::string& path, int64_t offset,
                 std::span<const std::byte> bytes) {
  const Result<IoFile> file = IoFile::Open(io, path, OpenMode::kReadWrite);
  ASSERT_TRUE(file.ok()) << file.status().message();
  const Status status = file->Write(offset, bytes);
  ASSERT_TRUE(status.ok()) << status.message();
}
inline void FlipBit(IoBackend* io, const std::string& path, int64_t at, int bit) {
  const int64_t sector = at / kIoAlignment * kIoAlignment;
  std::vector<std::byte> bytes = Peek(io, path, sector, kIoAlignment);
  bytes[static_cast<size_t>(at - sector)] ^= static_cast<std::byte>(1 << bit);
  Poke(io, path, sector, bytes);
}
inline int64_t SizeOf(IoBackend* io, const std::string& path) {
  const Result<IoFile> file = IoFile::Open(io, path, OpenMode::kRead);
  if (!file.ok()) return -1;
  const Result<int64_t> size = file->Size();
  return size.ok() ? *size : -1;
}

// Each kind of disk that runs here, with an empty root that can be made.
struct Place {
  const char* name;
  bool simulated;
  IoChoice choice;
};
inline void PrintTo(const Place& place, std::ostream* out) { *out << place.name; }

class SessionPlaceTest : public testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    if (GetParam().simulated) {
      io_ = std::make_unique<rigs::SimDisk>(rigs::SimOptions{});
      root_ = "/store";
      return;
    }
    Result<std::unique_ptr<IoBackend>> io = OpenIo(GetParam().choice, 16, nullptr);
    if (!io.ok() && io.status().code() == StatusCode::kUnsupported) {
      GTEST_SKIP() << "skipped: " << io.status().message();
    }
    ASSERT_TRUE(io.ok()) << io.status().message();
    io_ = std::move(*io);
    scratch_ = std::make_unique<ScratchDirectory>();
    root_ = scratch_->path() + "/store";
  }

  IoBackend* io() { return io_.get(); }
  const std::string& root() const { return root_; }
  Result<OpenedSession> Open(const std::string& name,
                             const SessionIdentity& identity = MakeIdentity()) {
    return SessionFiles::Open(io(), root_, name, identity);
  }

 private:
  std::unique_ptr<ScratchDirectory> scratch_;
  std::unique_ptr<IoBackend> io_;
  std::string root_;
};

inline constexpr Place kPlaces[] = {{"uring", false, IoChoice::kUring},
                                    {"threads", false, IoChoice::kThreads},
                                    {"simulated", true, IoChoice::kAuto}};

}  // namespace hga

#endif  // HGA_TESTS_UNIT_SESSION_FIXTURE_H_
