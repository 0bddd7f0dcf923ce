// SPDX-License-Identifier: Apache-2.0
// What requests report is counted here; what the scheduler counts itself is asked when scraped.
#include "apps/server/metrics.h"

#include <fmt/core.h>
#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace hga::server {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

const Buckets kSeconds = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                          1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
const Buckets kTokens = {1,    2,    5,     10,    20,    50,     100,    200,    500, 1000,
                         2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1e6};

class PrometheusMetrics : public Metrics {
 public:
  explicit PrometheusMetrics(const std::string& model) : labels_{{"model_name", model}} {
    first_token_ =
        &Histogram("time_to_first_token_seconds", "From a request to its first token", kSeconds);
    gap_ = &Histogram("inter_token_latency_seconds", "Between two tokens of an answer", kSeconds);
    whole_ = &Histogram("e2e_request_latency_seconds", "From a request to its end", kSeconds);
    queue_ = &Histogram("request_queue_time_seconds", "Waiting for a slot", kSeconds);
    prefill_ = &Histogram("request_prefill_time_seconds", "Reading the prompt", kSeconds);
    decode_ = &Histogram("request_decode_time_seconds", "Writing the answer", kSeconds);
    prompt_ = &Histogram("request_prompt_tokens", "Tokens of a prompt", kTokens);
    answer_ = &Histogram("request_generation_tokens", "Tokens of an answer", kTokens);
    success_ = &Counters("request_success_total", "Answers that ended, by why");
    responses_ = &Counters("http_responses_total", "HTTP responses, by status");
    for (const char* reason : {"stop", "length", "tool_calls", "abort", "error"}) Ended(reason);
  }

  void CountChoice(const ChoiceFigures& figures) override {
    const GenerationEnd& end = figures.end;
    Ended(figures.finish_reason).Increment();
    if (figures.first_token_seconds > 0) first_token_->Observe(figures.first_token_seconds);
    whole_->Observe(figures.seconds);
    queue_->Observe(end.queue_seconds);
    prefill_->Observe(end.prefill_seconds);
    decode_->Observe(end.decode_seconds);
    prompt_->Observe(static_cast<double>(end.prompt_tokens));
    answer_->Observe(static_cast<double>(end.answer_tokens));
  }
  void CountTokenGap(double seconds) override { gap_->Observe(seconds); }
  void CountResponse(int status) override {
    responses_->Add(With({{"status", std::to_string(status)}})).Increment();
  }

  std::string Text(const SchedulerStats* stats, int64_t capacity) override {
    std::vector<prometheus::MetricFamily> families = registry_.Collect();
    if (stats != nullptr) AddStats(*stats, capacity, &families);
    return prometheus::TextSerializer().Serialize(families);
  }

 private:
  prometheus::Labels With(prometheus::Labels more) const {
    more.insert(labels_.begin(), labels_.end());
    return more;
  }
  prometheus::Histogram& Histogram(const std::string& name, const std::string& help,
                                   const Buckets& buckets) {
    return prometheus::BuildHistogram()
        .Name("hga_" + name)
        .Help(help)
        .Register(registry_)
        .Add(labels_, buckets);
  }
  prometheus::Family<prometheus::Counter>& Counters(const std::string& name,
                                                    const std::string& help) {
    return prometheus::BuildCounter().Name("hga_" + name).Help(help).Register(registry_);
  }
  prometheus::Counter& Ended(const std::string& reason) {
    return success_->Add(With({{"finished_reason", reason}}));
  }

  void Add(const char* name, const char* help, bool counter, double value,
           std::vector<prometheus::MetricFamily>* families) const {
    prometheus::MetricFamily family;
    family.name = std::string("hga_") + name;
    family.help = help;
    family.type = counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
    prometheus::ClientMetric metric;
    for (const auto& [label, text] : labels_) metric.label.push_back({label, text});
    (counter ? metric.counter.value : metric.gauge.value) = value;
    family.metric.push_back(std::move(metric));
    families->push_back(std::move(family));
  }

  void AddStats(const SchedulerStats& stats, int64_t capacity,
                std::vector<prometheus::MetricFamily>* to) const {
    const auto gauge = [&](const char* name, const char* help, auto value) {
      Add(name, help, false, static_cast<double>(value), to);
    };
    const auto counter = [&](const char* name, const char* help, auto value) {
      Add(name, help, true, static_cast<double>(value), to);
    };
    gauge("num_requests_running", "Requests in a slot", stats.running);
    gauge("num_requests_waiting", "Requests that wait for a slot", stats.waiting);
    gauge("waiting_tokens", "Tokens of their prompts", stats.waiting_tokens);
    gauge(
        "kv_cache_usage_perc", "Tokens held, of what all slots could hold (0 to 1)",
        capacity > 0 ? static_cast<double>(stats.held_tokens) / static_cast<double>(capacity) : 0);
    gauge("kv_tokens", "Tokens held by all slots", stats.held_tokens);
    gauge("kv_planned_bytes", "Bytes planned for all slots", stats.held_bytes);
    counter("prompt_tokens_total", "Tokens of prompts, cached ones included", stats.prompt_tokens);
    counter("generation_tokens_total", "Tokens of answers", stats.answer_tokens);
    counter("prefix_cache_queries_total", "Tokens of prompts that were looked for in kept K/V",
            stats.prompt_tokens);
    counter("prefix_cache_hits_total", "Of those, tokens that were there", stats.cached_tokens);
    counter("requests_cancelled_total", "Requests whose client left", stats.cancelled);
    counter("requests_failed_total", "Requests that ended with an error", stats.failed);
    counter("requests_refused_total", "Requests refused because too much waited", stats.refused);
    counter("forward_passes_total", "Passes through the model", stats.passes);
    const KvStats& kv = stats.kv;
    counter("kv_cells_wanted_total", "Cells asked for by attention", kv.cells_wanted);
    counter("kv_cells_in_memory_total", "Of those, cells that were in memory", kv.cells_in_memory);
    counter("kv_read_bytes_total", "Bytes read from the disk", kv.read_bytes);
    counter("kv_written_bytes_total", "Bytes written to the disk", kv.written_bytes);
    counter("kv_stall_seconds_total", "Seconds of waiting for reads", kv.stall_seconds);
    counter("kv_damaged_cells_total", "Cells whose checksum did not match", kv.damaged);
    counter("kv_failed_reads_total", "Reads that failed", kv.failed_reads);
    counter("kv_failed_writes_total", "Writes that failed", kv.failed_writes);
    counter("kv_recomputed_tokens_total", "Tokens computed again, a record being lost",
            kv.recomputed_tokens);
    gauge("kv_disk_bytes", "Bytes of record files", kv.disk_bytes);
  }

  const prometheus::Labels labels_;
  prometheus::Registry registry_;
  prometheus::Histogram *first_token_, *gap_, *whole_, *queue_, *prefill_, *decode_, *prompt_,
      *answer_;
  prometheus::Family<prometheus::Counter>*success_, *responses_;
};

}  // namespace

std::unique_ptr<Metrics> Metrics::Make(const std::string& model_name) {
  return std::make_unique<PrometheusMetrics>(model_name);
}

}  // namespace hga::server
