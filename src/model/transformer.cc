// SPDX-License-Identifier: Apache-2.0
// The forward pass, layer by layer.
#include "model/transformer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "spec/layout.h"

namespace hga {
namespace {

// Adds the time of its scope to a stage.
class Timer {
 public:
  explicit Timer(StageSum& sum) : sum_(sum), start_(std::chrono::steady_clock::now()) {}
  ~Timer() {
    sum_.seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  StageSum& sum_;
  std::chrono::steady_clock::time_point start_;
};

double Elements(const WeightView& w) {
  return static_cast<double>(w.rows) * static_cast<double>(w.cols);
}

// The work of `rows` rows through a weight that is read `reads` times.
void Count(StageSum& sum, double rows, const WeightView& w, double reads = 1) {
  sum.flops += 2.0 * rows * Elements(w);
  sum.bytes += reads * Elements(w) * BytesOf(w.dtype);
}

// Rows of logits that leave a GPU at once.
constexpr int kLogitRows = 64;

// Makes arrays of one device until one fails.
class Maker {
 public:
  explicit Maker(Device& device) : device_(device) {}
  template <class T>
  void operator()(int64_t count, DeviceArray<T>* out, MemoryKind kind = MemoryKind::kDevice) {
    if (!status_.ok()) return;
    auto made = DeviceArray<T>::Make(device_, count, kind);
    if (made.ok()) {
      *out = std::move(made).value();
    } else {
      status_ = made.status();
    }
  }
  const Status& status() const { return status_; }

 private:
  Device& device_;
  Status status_;
};

}  // namespace

Status Transformer::Prepare(int rows, Device& device) {
  const int64_t n = rows, q = config_.q_width(), kv = config_.kv_width();
  const int64_t half = config_.head_dim / 2, pointers = n * config_.kv_heads;
  head_jobs_.reserve(static_cast<size_t>(n));
  on_host_ = device.host_memory();
  Maker make(device);
  make(n * config_.hidden, &x_);
  make(n * config_.hidden, &h_);
  make(n * q, &q_);
  make(n * kv, &k_);
  make(n * kv, &v_);
  make(n * q, &out_);
  make(2 * n * std::max(1, config_.intermediate), &ffn_);
  make(n * half, &cos_);
  make(n * half, &sin_);
  make(pointers * (on_host_ ? 1 : config_.layers), &k_rows_);
  make(pointers * (on_host_ ? 1 : config_.layers), &v_rows_);
  if (!on_host_) {
    const int64_t logits = int64_t{std::min(rows, kLogitRows)} * config_.vocab;
    make(n * config_.hidden, &sent_x_, MemoryKind::kPinned);
    make(2 * n * half, &sent_angles_, MemoryKind::kPinned);
    make(2 * pointers * config_.layers, &sent_rows_, MemoryKind::kPinned);
    make(logits, &device_logits_);
    make(logits, &sent_logits_, MemoryKind::kPinned);
  }
  HGA_RETURN_IF_ERROR(make.status());
  if (!on_host_) HGA_RETURN_IF_ERROR(weights_.MoveTo(device));
  inverse_frequency_.clear();
  for (int i = 0; i < config_.head_dim / 2; ++i) {
    inverse_frequency_.push_back(std::pow(config_.rope_theta, -2.0 * i / config_.head_dim));
  }
  return OkStatus();
}

Status Transformer::Forward(Ops& ops, AttentionScratch& scratch,
                            std::span<const TransformerItem> items, const AttentionTap& tap) {
  rows_ = 0;
  for (const TransformerItem& item : items) rows_ += static_cast<int>(item.tokens.size());
  {
    Timer timer(stage(Stage::kEmbed));
    if (on_host_) {
      Embed(items, x_.data());
      Angles(items, cos_.data(), sin_.data());
    } else {
      SendInputs(ops, items);
    }
  }
  for (int layer = 0; layer < config_.layers; ++layer) {
    HGA_RETURN_IF_ERROR(AttentionBlock(ops, scratch, layer, items, tap));
    FeedForward(ops, weights_.layers()[static_cast<size_t>(layer)]);
  }
  Timer timer(stage(Stage::kHead));
  HGA_RETURN_IF_ERROR(Logits(ops, items));
  HGA_RETURN_IF_ERROR(ops.stream().Wait());
  return ops.status();
}

// Everything a call computes from tokens and positions on the host, and where K/V go, in a few
// copies at its start.
void Transformer::SendInputs(Ops& ops, std::span<const TransformerItem> items) {
  const int64_t hidden = config_.hidden, half = config_.head_dim / 2;
  const int64_t angles = rows_ * half, pointers = int64_t{rows_} * config_.kv_heads;
  const int64_t all = pointers * config_.layers;
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  constexpr auto kPointer = static_cast<int64_t>(sizeof(Bf16*));
  Embed(items, sent_x_.data());
  Angles(items, sent_angles_.data(), sent_angles_.data() + angles);
  for (int layer = 0; layer < config_.layers; ++layer) {
    KvRows(items, layer, sent_rows_.data() + layer * pointers,
           sent_rows_.data() + all + layer * pointers);
  }
  Stream& stream = ops.stream();
  stream.Copy(x_.data(), sent_x_.data(), rows_ * hidden * kFloat);
  stream.Copy(cos_.data(), sent_angles_.data(), angles * kFloat);
  stream.Copy(sin_.data(), sent_angles_.data() + angles, angles * kFloat);
  stream.Copy(k_rows_.data(), sent_rows_.data(), all * kPointer);
  stream.Copy(v_rows_.data(), sent_rows_.data() + all, all * kPointer);
}

void Transformer::Embed(std::span<const TransformerItem> items, float* x) {
  const WeightView& e = weights_.embedding();
  for (const TransformerItem& item : items) {
    for (int32_t token : item.tokens) {
      const int64_t first = int64_t{token} * e.cols;
      for (int64_t i = 0; i < e.cols; ++i) {
        switch (e.dtype) {
          case Dtype::kF32:
            x[i] = static_cast<const float*>(e.data)[first + i];
            break;
          case Dtype::kF16:
            x[i] = F16ToFloat(static_cast<const uint16_t*>(e.data)[first + i]);
            break;
          case Dtype::kBf16:
            x[i] = Bf16ToFloat(static_cast<const Bf16*>(e.data)[first + i]);
            break;
          case Dtype::kFp8:
            x[i] = Fp8ToFloat(static_cast<const Fp8*>(e.data)[first + i]);
            break;
        }
      }
      x += e.cols;
    }
  }
}

void Transformer::Angles(std::span<const TransformerItem> items, float* cos, float* sin) {
  const size_t half = inverse_frequency_.size();
  size_t row = 0;
  for (const TransformerItem& item : items) {
    for (size_t t = 0; t < item.tokens.size(); ++t, ++row) {
      const double position = static_cast<double>(item.first_position) + static_cast<double>(t);
      for (size_t i = 0; i < half; ++i) {
        const double angle = position * inverse_frequency_[i];
        cos[row * half + i] = static_cast<float>(std::cos(angle));
        sin[row * half + i] = static_cast<float>(std::sin(angle));
      }
    }
  }
}

void Transformer::KvRows(std::span<const TransformerItem> items, int layer, Bf16** k, Bf16** v) {
  for (const TransformerItem& item : items) {
    for (size_t t = 0; t < item.tokens.size(); ++t) {
      const int64_t position = item.first_position + static_cast<int64_t>(t);
      for (int head = 0; head < config_.kv_heads; ++head) {
        *k++ = item.history->Key(layer, head, position);
        *v++ = item.history->Value(layer, head, position);
      }
    }
  }
}

void Transformer::NormRows(Ops& ops, const float* x, const float* weight, int rows, float* y) {
  NormParams p;
  p.x = x;
  p.weight = weight;
  p.y = y;
  p.rows = rows;
  p.width = config_.hidden;
  p.epsilon = static_cast<float>(config_.rms_norm_eps);
  ops.Norm(p);
}

Status Transformer::AttentionBlock(Ops& ops, AttentionScratch& scratch, int layer,
                                   std::span<const TransformerItem> items,
                                   const AttentionTap& tap) {
  const LayerWeights& w = weights_.layers()[static_cast<size_t>(layer)];
  const int hidden = config_.hidden, q_width = config_.q_width(), kv_width = config_.kv_width();
  {
    Timer timer(stage(Stage::kLinear));
    for (const WeightView* view : {&w.q, &w.k, &w.v}) Count(stage(Stage::kLinear), rows_, *view);
    NormRows(ops, x_.data(), w.input_norm, rows_, h_.data());
    const LinearParams jobs[] = {
        {h_.data(), hidden, rows_, w.q, q_.data(), q_width, false},
        {h_.data(), hidden, rows_, w.k, k_.data(), kv_width, false},
        {h_.data(), hidden, rows_, w.v, v_.data(), kv_width, false},
    };
    ops.Linear(jobs);

    const int64_t table = on_host_ ? 0 : int64_t{layer} * rows_ * config_.kv_heads;
    if (on_host_) KvRows(items, layer, k_rows_.data(), v_rows_.data());
    RotateParams r;
    r.shape = head_shape();
    r.rows = rows_;
    r.q = q_.data();
    r.k = k_.data();
    r.v = v_.data();
    r.q_norm = w.q_norm;
    r.k_norm = w.k_norm;
    r.epsilon = static_cast<float>(config_.rms_norm_eps);
    r.cos = cos_.data();
    r.sin = sin_.data();
    r.k_out = k_rows_.data() + table;
    r.v_out = v_rows_.data() + table;
    ops.Rotate(r);
  }
  {
    Timer timer(stage(Stage::kAttention));
    HGA_RETURN_IF_ERROR(Attend(ops, scratch, layer, items, tap));
  }
  Timer timer(stage(Stage::kLinear));
  Count(stage(Stage::kLinear), rows_, w.o);
  const LinearParams job = {out_.data(), q_width, rows_, w.o, x_.data(), hidden, true};
  ops.Linear({&job, 1});
  return OkStatus();
}

Status Transformer::Attend(Ops& ops, AttentionScratch& scratch, int layer,
                           std::span<const TransformerItem> items, const AttentionTap& tap) {
  StageSum& sum = stage(Stage::kAttention);
  const int64_t width = config_.q_width();
  int64_t row = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const TransformerItem& item = items[i];
    const int n = static_cast<int>(item.tokens.size());
    const int64_t end = item.first_position + n;
    const float* q = q_.data() + row * width;
    float* out = out_.data() + row * width;
    const AttentionStats before = item.attention->stats();
    failed_item_ = i;
    item.attention->Close(ops, *item.history, layer, item.first_position, end);
    for (int64_t chunk = item.first_position / spec::kChunk; chunk < end / spec::kChunk; ++chunk) {
      item.history->Close(layer, chunk);
    }
    HGA_RETURN_IF_ERROR(
        item.attention->Attend(ops, scratch, *item.history, layer, q, item.first_position, n, out));
    sum.flops += item.attention->stats().flops - before.flops;
    sum.bytes += item.attention->stats().bytes_read - before.bytes_read;
    if (tap) tap(layer, i, q, out);
    row += n;
  }
  return OkStatus();
}

void Transformer::FeedForward(Ops& ops, const LayerWeights& w) {
  Timer timer(stage(Stage::kExperts));
  const int hidden = config_.hidden;
  NormRows(ops, x_.data(), w.attention_norm, rows_, h_.data());
  if (w.moe) {
    ExpertsParams p;
    p.x = h_.data();
    p.rows = rows_;
    p.hidden = hidden;
    p.width = config_.moe_intermediate;
    p.experts = config_.experts;
    p.experts_per_token = config_.experts_per_token;
    p.renormalise = config_.norm_topk_prob;
    p.router = w.router;
    p.gate = w.gate_table;
    p.up = w.up_table;
    p.down = w.down_table;
    p.y = x_.data();
    ops.Experts(p);
    StageSum& sum = stage(Stage::kExperts);
    Count(sum, rows_, w.router);
    const double choices = static_cast<double>(rows_) * config_.experts_per_token;
    const double touched = std::min<double>(config_.experts, choices);
    for (const auto* views : {&w.gate, &w.up, &w.down}) Count(sum, choices, (*views)[0], touched);
    return;
  }
  const int width = config_.intermediate;
  float* gate = ffn_.data();
  float* up = gate + int64_t{rows_} * width;
  const LinearParams jobs[] = {{h_.data(), hidden, rows_, w.gate[0], gate, width, false},
                               {h_.data(), hidden, rows_, w.up[0], up, width, false}};
  ops.Linear(jobs);
  ops.Silu({gate, up, gate, int64_t{rows_} * width});
  const LinearParams down = {gate, width, rows_, w.down[0], x_.data(), hidden, true};
  ops.Linear({&down, 1});
  for (const auto* views : {&w.gate, &w.up, &w.down}) {
    Count(stage(Stage::kExperts), rows_, (*views)[0]);
  }
}

Status Transformer::Logits(Ops& ops, std::span<const TransformerItem> items) {
  const WeightView& head = weights_.head();
  const int hidden = config_.hidden;
  head_jobs_.clear();
  int64_t row = 0;
  for (const TransformerItem& item : items) {
    const int n = static_cast<int>(item.tokens.size());
    const int wanted = item.wanted == LogitsWanted::kAll ? n : item.wanted == LogitsWanted::kLast;
    if (wanted > 0) {
      const int64_t first = row + n - wanted;
      float* h = h_.data() + first * hidden;
      NormRows(ops, x_.data() + first * hidden, weights_.final_norm(), wanted, h);
      if (on_host_) {
        head_jobs_.push_back({h, hidden, wanted, head, item.logits, head.rows, false});
      } else {
        HGA_RETURN_IF_ERROR(FetchLogits(ops, h, wanted, item.logits));
      }
      Count(stage(Stage::kHead), wanted, head);
    }
    row += n;
  }
  ops.Linear(head_jobs_);
  return OkStatus();
}

// Logits of `rows` rows from a GPU, some at a time.
Status Transformer::FetchLogits(Ops& ops, const float* h, int rows, float* logits) {
  const WeightView& head = weights_.head();
  const int most = static_cast<int>(device_logits_.size() / head.rows);
  for (int done = 0; done < rows; done += most) {
    const int n = std::min(most, rows - done);
    const int64_t floats = n * head.rows, bytes = floats * static_cast<int64_t>(sizeof(float));
    const LinearParams job = {h + int64_t{done} * config_.hidden,
                              config_.hidden,
                              n,
                              head,
                              device_logits_.data(),
                              head.rows,
                              false};
    ops.Linear({&job, 1});
    ops.stream().Copy(sent_logits_.data(), device_logits_.data(), bytes);
    HGA_RETURN_IF_ERROR(ops.stream().Wait());
    std::memcpy(logits + int64_t{done} * head.rows, sent_logits_.data(),
                static_cast<size_t>(bytes));
  }
  return OkStatus();
}

}  // namespace hga
