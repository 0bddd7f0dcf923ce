// SPDX-License-Identifier: Apache-2.0
// The engine: a Hugging Face checkpoint directory in, logits out, over sequences whose attention
// follows a chosen rule. Tokens in, tokens out; text belongs to Tokenizer.
#ifndef HGA_ENGINE_H_
#define HGA_ENGINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/config.h"
#include "hga/status.h"
#include "hga/tokenizer.h"

namespace hga {

// Facts of a checkpoint, read without loading weights.
struct ModelInfo {
  std::string directory;
  std::string family;         // config.json's model_type
  std::string weight_format;  // e.g. "fp8-e4m3 128x128", "bf16"
  int layers = 0;
  int hidden = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int vocab = 0;
  int experts = 0;  // 0: dense feed-forward
  int experts_per_token = 0;
  int ffn_width = 0;  // of one expert, or of the dense feed-forward
  bool tied_embeddings = false;
  double rope_theta = 0;
  int64_t max_position = 0;  // tokens the model was made for
  int64_t parameters = 0;
  int64_t weight_bytes = 0;  // as stored, which is as kept in memory
  int64_t tensors = 0;
  int shards = 0;
  std::vector<int32_t> eos_ids;
};

// Bytes a run will need, known before loading.
struct MemoryPlan {
  int64_t context = 0;        // tokens
  int64_t program_bytes = 0;  // what the process has without a model, and the tokenizer
  int64_t weight_bytes = 0;
  int64_t kv_bytes_per_token = 0;  // all layers
  int64_t kv_bytes = 0;            // at `context`, wherever it is
  // In memory for good: K/V of dense layers (of all, without a bound on host memory), windows and
  // samples of the others, summaries; and their sum.
  int64_t dense_bytes = 0, window_bytes = 0, summary_bytes = 0, device_bytes = 0;
  int64_t spilled_summary_bytes = 0;  // of layers with a beam, on disk (summary_bytes is without)
  int64_t table_bytes = 0;            // where each cell is, checksums
  int64_t host_bytes = 0;  // cells of layers that are not dense, in memory up to their bound
  int64_t disk_bytes = 0;  // records
  int64_t staging_bytes = 0;
  int64_t scratch_bytes = 0;  // activations and attention scratch of all threads
  int64_t total_bytes = 0;
  int64_t available_bytes = 0;       // what the machine could give now
  int64_t disk_available_bytes = 0;  // in KvOptions::directory, by its quota and by the disk
  bool fits = false;
  std::string why;  // what does not fit, with both numbers; empty when all does
};

struct LoadProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
};

// Where the keys and values of sequences live.
struct KvOptions {
  // Most bytes of K/V kept in memory for layers that are not dense, beside their windows and
  // samples; what has no room is on disk. 0: all of it stays in memory.
  int64_t host_bytes = 0;
  // Most bytes for what never leaves memory: K/V of dense layers, windows, samples, summaries. A
  // sequence that needs more is refused. 0: no bound.
  int64_t device_bytes = 0;
  // Most bytes of all files in `directory`. 0: what the disk gives.
  int64_t disk_bytes = 0;
  std::string directory;             // of records and sessions; "" : nothing goes to disk
  bool allow_ram_directory = false;  // a directory in memory (tmpfs) saves nothing and is refused
  std::string io = "auto";           // "io_uring", "threads"
};

struct EngineOptions {
  std::string device = "cpu";  // or, in a build with CUDA, "cuda:0", ...
  int64_t device_memory = 0;   // most bytes of a GPU's memory to take; 0: what is free
  int threads = 0;             // 0: one per core the process may use
  std::string isa;  // "" or "auto": the best of the machine; "avx2", "avx3", ...: at most that
  int span = 256;   // most tokens (rows) of one Forward; scratch grows with it
  bool check_values = false;  // refuse non-finite weights while loading
  KvOptions kv;
  std::function<void(const LoadProgress&)> on_load;  // may be empty; called from the loading thread
};

// Sums over (query, layer, KV head); divide to get shares.
struct AttentionStats {
  struct Sums {
    double context = 0;  // tokens a dense attention would have read
    double visible = 0;  // tokens the softmax saw (working set)
    double fetched = 0;  // distinct tokens brought in for a span, as its queries' share
  };
  Sums all;               // every layer
  Sums routed;            // without dense layers
  int64_t queries = 0;    // tokens fed
  double bytes_read = 0;  // K/V, summaries and samples read by attention (a cell read once a span)
  double flops = 0;       // multiply-adds times two of scores, sums of values, scan and tail
};

// What the disk tier did since the engine was opened. All zero without one.
struct KvStats {
  std::string io;               // back end: "io_uring", "threads"
  std::string io_note;          // why it is not the first choice; may be empty
  int64_t cells_wanted = 0;     // of 8 tokens and one KV head, asked for by attention
  int64_t cells_in_memory = 0;  // of those
  int64_t cells_on_their_way = 0;
  int64_t reads = 0, writes = 0;  // transfers
  int64_t read_bytes = 0, written_bytes = 0;
  int64_t summary_pages = 0;  // pages of summaries brought in from the disk
  int64_t damaged = 0;        // cells whose checksum did not match
  int64_t failed_reads = 0, failed_writes = 0;
  int64_t recomputed_tokens = 0;  // because a record was lost
  double stall_seconds = 0;       // waiting for reads
  int64_t slots = 0;              // cells that may be in memory
  int64_t slots_touched = 0;      // and how many of them took memory
  int64_t evictions = 0;
  int64_t disk_bytes = 0;                   // of record files now
  double read_p50_us = 0, read_p99_us = 0;  // of a transfer; upper ends of power-of-two buckets
  // Those buckets: element i counts the reads that took [2^i, 2^(i+1)) microseconds.
  std::array<int64_t, 32> read_latency = {};
  std::string error;  // why records can't be written now; empty when they can
};

// What an application keeps with a session, opaque to the engine.
struct SessionNote {
  std::vector<std::byte> sampler;  // state of its random numbers
  std::string text;                // turns of a chat
};

// A session as `hga session list` shows it.
struct SessionInfo {
  std::string name;
  int64_t tokens = 0;
  int64_t bytes = 0;
  int64_t saved_at = 0;  // unix seconds
  std::string model;     // first digits of the identity
  std::string state;     // "good", "in use", or what is wrong
  std::string note;      // SessionNote::text of the last checkpoint
};

// One sequence's tokens and K/V history. Not thread-safe; belongs to the Engine that made it.
class Sequence {
 public:
  virtual ~Sequence() = default;
  virtual int64_t length() const = 0;    // tokens held
  virtual int64_t capacity() const = 0;  // tokens that fit
  virtual const AttentionConfig& attention() const = 0;
  virtual const AttentionStats& stats() const = 0;
  virtual void ResetStats() = 0;
  // The same history with another rule: K/V stay, summaries are rebuilt where the rule needs
  // others. For comparing decode rules over equal K/V.
  virtual Status SetAttention(const AttentionConfig& config) = 0;
  // Forgets the tokens from `length` on. kInvalidArgument beyond length().
  virtual Status Truncate(int64_t length) = 0;
  virtual std::span<const int32_t> tokens() const = 0;  // [length]
  // Saves a sequence that belongs to a session: when this returns kOk, the tokens, `note` and all
  // K/V survive a crash. kInvalidArgument for other sequences; kResourceExhausted and kIoError
  // leave the last checkpoint as it was, and the sequence goes on.
  virtual Status Checkpoint(const SessionNote& note) = 0;
  // What the last checkpoint kept; empty without one.
  virtual const SessionNote& note() const = 0;
  // The plan of the newest decoded token: opened groups of (layer, KV head), ascending, as first
  // token positions with their length. Empty for layers without routing.
  struct OpenedGroup {
    int64_t first;  // position
    int tokens;
  };
  virtual std::vector<OpenedGroup> LastPlan(int layer, int kv_head) const = 0;
};

enum class LogitsWanted { kNone, kLast, kAll };

// Some tokens of one sequence in a batch.
struct BatchItem {
  Sequence* sequence = nullptr;
  std::span<const int32_t> tokens;  // appended; 1 or more
  LogitsWanted wanted = LogitsWanted::kNone;
  std::span<float> logits;  // [1 or tokens.size()][vocab], by `wanted`; must be that long
};

// For `eval layers`: one layer's attention input and output on the trajectory of a Forward.
struct LayerTap {
  int layer;
  int64_t first_position;
  int rows;
  const float* q;    // [rows][heads][head_dim], rotated, bf16-rounded
  const float* out;  // [rows][heads][head_dim]
};

class Engine {
 public:
  // Reads and checks config, headers and tokenizer, then loads the weights.
  static Result<std::unique_ptr<Engine>> Open(const std::string& directory,
                                              const EngineOptions& options);
  // Random weights of a checkpoint's shape (only config.json is read).
  static Result<std::unique_ptr<Engine>> OpenDummy(const std::string& directory,
                                                   const EngineOptions& options, uint64_t seed);
  virtual ~Engine() = default;

  virtual const ModelInfo& info() const = 0;
  virtual const Tokenizer& tokenizer() const = 0;  // HGA_CHECKs after OpenDummy
  virtual int threads() const = 0;
  virtual std::string isa() const = 0;  // what the kernels run on, e.g. "AVX2"
  virtual int span() const = 0;

  // Room for `capacity` tokens is reserved (address space; pages are touched as they fill).
  // kInvalidArgument for a bad rule, kResourceExhausted for memory.
  virtual Result<std::unique_ptr<Sequence>> NewSequence(const AttentionConfig& attention,
                                                        int64_t capacity) = 0;
  // The sequence of session `name` in EngineOptions::kv.directory: taken up where it was saved, or
  // a new one. kInvalidArgument when another checkpoint or format wrote it (the message says what
  // differs), kResourceExhausted when it is in use or has more than `capacity` tokens.
  // A session that is damaged in part is computed again from its tokens.
  virtual Result<std::unique_ptr<Sequence>> OpenSession(const std::string& name,
                                                        const AttentionConfig& attention,
                                                        int64_t capacity) = 0;
  // EngineOptions::kv
  virtual const KvOptions& kv_options() const = 0;
  virtual KvStats kv_stats() const = 0;
  // Whatever can be read again leaves memory, for measurements of a cold start.
  virtual void EvictAll() = 0;
  // One pass over at most span() tokens in all. Synchronous. Either every item's tokens are
  // appended or (on error) none. Token ids outside the vocabulary: kInvalidArgument.
  virtual Status Forward(std::span<const BatchItem> items) = 0;
  // Feeds any number of tokens in spans. `logits` as BatchItem. `progress(done, total)` may be
  // empty; returning false stops with kCancelled, after a whole span.
  virtual Status Feed(Sequence& sequence, std::span<const int32_t> tokens, LogitsWanted wanted,
                      std::span<float> logits,
                      const std::function<bool(int64_t, int64_t)>& progress) = 0;
  // For `eval layers`: feeds one span on dense attention's trajectory; `sequence` must be dense.
  // For each layer `visit(layer, rule index, relative error per row...)` see LayerReport.
  struct LayerReport {
    int layer = 0;
    std::vector<double>
        relative_error;              // [rules] mean over rows and heads of |o - dense| / |dense|
    double entropy = 0;              // nats, mean over rows and heads, of dense attention
    double mass_beyond_windows = 0;  // share of attention mass on the candidate range, mean
    int64_t rows = 0;                // rows with a non-empty candidate range
  };
  // Measured over the queries at positions >= `from` of `tokens`; every `stride`-th of them.
  virtual Result<std::vector<LayerReport>> CompareLayers(
      std::span<const int32_t> tokens, std::span<const AttentionConfig> rules, int64_t from,
      int64_t stride, const std::function<bool(int64_t, int64_t)>& progress) = 0;

  // Memory a sequence of `context` tokens needs under `attention`.
  virtual MemoryPlan Plan(const AttentionConfig& attention, int64_t context) const = 0;

  // Seconds spent per stage since the last reset (wall time of the calling thread).
  struct StageTime {
    std::string_view name;  // "linear", "attention", "experts", "head", ...
    double seconds;
    double flops;  // useful multiply-adds times two
    double bytes;  // least traffic
  };
  virtual std::vector<StageTime> stage_times() const = 0;
  virtual void ResetStageTimes() = 0;
};

// What this process can compute on, known without a model.
struct DeviceInfo {
  std::string name;             // "cpu"
  std::string isa;              // as Engine::isa() with default options
  int threads = 0;              // cores the process may use
  int64_t memory_bytes = 0;     // of the machine
  int64_t available_bytes = 0;  // what could be had now
};
Result<std::vector<DeviceInfo>> ListDevices();

// Sessions below a directory, without a model. Verify compares every record with its checksums;
// its result is a sentence, kDataLoss when anything is damaged.
Result<std::vector<SessionInfo>> ListSessions(const std::string& directory);
Result<SessionInfo> FindSession(const std::string& directory, const std::string& name);
Result<std::string> VerifySession(const std::string& directory, const std::string& name,
                                  const std::function<bool(int64_t, int64_t)>& progress);
Status DeleteSession(const std::string& directory, const std::string& name);
// Session `from` once more as `to`, replacing what had that name; neither may be in use. Returns
// its tokens. kResourceExhausted when all sessions would take more than `quota` bytes (0: no
// bound).
Result<int64_t> CopySession(const std::string& directory, const std::string& from,
                            const std::string& to, int64_t quota);
// Removes damaged sessions and then the oldest until all take at most `quota` bytes; those removed.
Result<std::vector<SessionInfo>> PruneSessions(const std::string& directory, int64_t quota);

// What the disk under a directory gives, measured on a temporary file of 256 MiB.
struct DiskLimits {
  std::string io;           // back end
  std::string file_system;  // "ext4", "xfs", ...
  bool direct = false;      // the page cache is passed by; else the figures are those of the cache
  int depth = 0;            // random reads in flight
  double random_reads_per_second = 0;  // of 4 KiB, `depth` of them at a time
  double random_read_us = 0;           // median of 4 KiB, one at a time
  double read_bytes_per_second = 0;    // 1 MiB, one behind the other
  double write_bytes_per_second = 0;
};
// Takes about four times `seconds`. `io` as KvOptions::io. The directory must exist.
Result<DiskLimits> MeasureDisk(const std::string& directory, const std::string& io, double seconds);

// Reads config.json and all headers, no weights.
Result<ModelInfo> ReadModelInfo(const std::string& directory);
// The plan without loading anything. A session has the records of every layer on disk.
Result<MemoryPlan> PlanMemory(const std::string& directory, const AttentionConfig& attention,
                              const KvOptions& kv, bool session, int64_t context, int span,
                              int threads);
// A directory as it is; or a Hugging Face id looked up offline in the local cache
// (HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub). kNotFound says the
// `hf download` line to run. `revision` "" means "main".
Result<std::string> ResolveModel(const std::string& model, const std::string& revision);
// Shapes, dtypes, NaN/Inf and scales of every tensor of a checkpoint (reads all of it).
Status CheckModel(const std::string& directory, const std::function<void(const LoadProgress&)>& p);

}  // namespace hga

#endif  // HGA_ENGINE_H_
