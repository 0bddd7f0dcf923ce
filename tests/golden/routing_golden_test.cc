// SPDX-License-Identifier: Apache-2.0
// Plans and outputs recorded by an independent NumPy implementation (tools/golden_routing.py),
// against the reference and against the CPU backend.
#include "tests/conformance/attention_fixture.h"
#include "tests/golden/npy.h"

namespace hga::golden {
namespace {

using conformance::Gamma;
using conformance::History;
using conformance::MassError;
using conformance::Routed;
using conformance::Summaries;
using nlohmann::json;

const std::string kFolder = std::string(HGA_SOURCE_DIR) + "/tests/golden/data/routing/";

RoutingConfig RuleOf(const json& j) {
  RoutingConfig r;
  r.group = j.at("group");
  r.key_span = j.at("key_span");
  r.chunk_key_span = j.at("chunk_key_span");
  r.value_span = j.at("value_span");
  r.sink_chunks = j.at("sink_chunks");
  r.local_chunks = j.at("local_chunks");
  r.groups_budget = j.at("groups_budget");
  r.chunk_beam = j.at("chunk_beam");
  r.beam_share = j.at("beam_share");
  r.tail = j.at("tail");
  r.trust = j.at("trust");
  r.key_mean = j.at("key_mean") == "rotated" ? KeyMean::kRotated : KeyMean::kMixedRope;
  r.scope = j.at("scope") == "kv_head" ? SelectionScope::kKvHead : SelectionScope::kQueryHead;
  r.summary_dtype = j.at("summary_dtype") == "fp8" ? SummaryDtype::kFp8 : SummaryDtype::kBf16;
  return r;
}

// The recorded case: one layer of one sequence and queries at some of its positions.
class RoutingGolden : public testing::Test {
 protected:
  RoutingGolden() : manifest_(ReadManifest(kFolder)) {
    shape_ = {manifest_.at("heads"), manifest_.at("kv_heads"), manifest_.at("head_dim")};
    positions_ = manifest_.at("positions").get<std::vector<int64_t>>();
    for (uint16_t bits : ReadNpy<uint16_t>(kFolder + "q.npy").data) {
      q_.push_back(Bf16ToFloat(bits));
    }
    const auto k = ReadNpy<uint16_t>(kFolder + "k.npy"), v = ReadNpy<uint16_t>(kFolder + "v.npy");
    tokens_ = manifest_.at("tokens");
    history_ = std::make_unique<History>(shape_, tokens_, k.data.data(), v.data.data());
    std::printf("%s, seed %lld, numpy %s\n", manifest_.at("generator").get<std::string>().c_str(),
                static_cast<long long>(manifest_.at("seed")),
                manifest_.at("numpy").get<std::string>().c_str());
  }
  std::vector<std::unique_ptr<Ops>> Backends() {
    std::vector<std::unique_ptr<Ops>> all;
    all.push_back(MakeReferenceOps());
    all.push_back(conformance::OpenBackend("auto", 2));
    EXPECT_TRUE(all[1]->Prepare(conformance::AttentionLimits(shape_, 1, tokens_)).ok());
    return all;
  }
  std::vector<float> QueryRow(size_t i) const {
    const int64_t width = int64_t{shape_.heads} * shape_.head_dim;
    return {q_.begin() + static_cast<int64_t>(i) * width,
            q_.begin() + static_cast<int64_t>(i + 1) * width};
  }
  // Attention of query i under a plan.
  std::vector<float> Attend(Ops& ops, const RoutingConfig& rule, const std::vector<float>& q,
                            int64_t position, Routed& routed) const {
    std::vector<float> out(q.size());
    AttendRoutedParams p;
    p.shape = shape_;
    p.q = q.data();
    p.first_position = position;
    p.queries = 1;
    p.kv = history_->view();
    p.out = out.data();
    p.rule = &rule;
    p.plan = routed.plan();
    p.tail = rule.tail ? routed.tail.data() : nullptr;
    ops.AttendRouted(p);
    return out;
  }

  json manifest_;
  HeadShape shape_;
  std::vector<int64_t> positions_;
  std::vector<float> q_;  // [positions][heads][head_dim]
  int64_t tokens_ = 0;
  std::unique_ptr<History> history_;
};

TEST_F(RoutingGolden, PresetsMeanWhatWasRecorded) {
  int presets = 0;
  for (const json& entry : manifest_.at("rules")) {
    if (!entry.at("preset")) continue;
    const auto preset = PresetConfig(entry.at("name").get<std::string>());
    ASSERT_TRUE(preset.ok()) << preset.status().message();
    EXPECT_EQ(preset->routing, RuleOf(entry.at("rule"))) << entry.at("name");
    ++presets;
  }
  EXPECT_EQ(presets, static_cast<int>(PresetNames().size()) - 1);  // all but dense
}

// One rule on one backend: plans where the recorded margin is clear, outputs where plans agree.
void CheckRule(const std::string& label, const std::vector<int32_t>& plan,
               const std::vector<double>& margin, double share_error, const Routed& routed,
               int* unclear, bool* equal) {
  *equal = true;
  const int64_t width = static_cast<int64_t>(plan.size()) / routed.selectors;
  for (int s = 0; s < routed.selectors; ++s) {
    std::vector<int32_t> want(plan.begin() + s * width, plan.begin() + (s + 1) * width);
    want.erase(std::find(want.begin(), want.end(), -1), want.end());
    const bool same = routed.Opened(0, s) == want;
    *equal = *equal && same;
    if (margin[s] > share_error) {
      EXPECT_TRUE(same) << label << ", selector " << s << ", margin " << margin[s];
    } else {
      ++*unclear;
    }
  }
}

TEST_F(RoutingGolden, PlansAndOutputs) {
  for (auto& ops : Backends()) {
    for (const json& entry : manifest_.at("rules")) {
      const RoutingConfig rule = RuleOf(entry.at("rule"));
      const std::string name = ops->name() + ", " + entry.at("name").get<std::string>();
      const auto want = ReadNpy<float>(kFolder + entry.at("out").get<std::string>());
      const auto plans = ReadNpy<int32_t>(kFolder + entry.at("plan").get<std::string>());
      const auto margins = ReadNpy<double>(kFolder + entry.at("margin").get<std::string>());
      const double terms = static_cast<double>(tokens_) + 64;
      const double error = MassError(conformance::ScoreError(*history_, q_), terms);
      Summaries summaries(*ops, *history_, rule);
      std::vector<float> got, clear;
      int unclear = 0;
      for (size_t i = 0; i < positions_.size(); ++i) {
        const std::vector<float> q = QueryRow(i);
        Routed routed(shape_, rule, 1);
        std::fill_n(routed.counts.data(), routed.counts.size(), 0);
        if (spec::NeedsSummaries(rule)) {
          ops->Route(conformance::RouteOf(shape_, rule, summaries, q, positions_[i], routed));
        }
        const int64_t row = plans.shape[1] * plans.shape[2], at = static_cast<int64_t>(i);
        bool equal = false;
        CheckRule(name + " at " + std::to_string(positions_[i]),
                  {plans.data.begin() + at * row, plans.data.begin() + (at + 1) * row},
                  {margins.data.begin() + at * plans.shape[1],
                   margins.data.begin() + (at + 1) * plans.shape[1]},
                  2 * error, routed, &unclear, &equal);
        if (!equal) continue;
        const std::vector<float> out = Attend(*ops, rule, q, positions_[i], routed);
        got.insert(got.end(), out.begin(), out.end());
        clear.insert(clear.end(), want.data.begin() + at * static_cast<int64_t>(q.size()),
                     want.data.begin() + (at + 1) * static_cast<int64_t>(q.size()));
      }
      if (unclear > 0) std::printf("  %s: %d plans below the margin\n", name.c_str(), unclear);
      EXPECT_GE(got.size(), q_.size() * 3 / 4) << name;
      // As in the conformance test of routed attention; o_T and v_said, computed here, carry 2 e
      // each as well.
      const double bound = (rule.tail ? 10 : 2) * error * 1.07 * history_->value_size();
      conformance::ExpectWithin(name, got, clear, [&](size_t) { return bound; });
    }
  }
}

TEST_F(RoutingGolden, Samples) {
  for (auto& ops : Backends()) {
    for (const json& entry : manifest_.at("samples")) {
      const auto want = ReadNpy<float>(kFolder + entry.at("out").get<std::string>());
      std::vector<float> got;
      for (size_t i = 0; i < positions_.size(); ++i) {
        const std::vector<float> q = QueryRow(i);
        std::vector<float> out(q.size());
        AttendSampledParams p;
        p.shape = shape_;
        p.q = q.data();
        p.first_position = positions_[i];
        p.queries = 1;
        p.kv = history_->view();
        p.out = out.data();
        p.sink_chunks = entry.at("sink_chunks");
        p.local_chunks = entry.at("local_chunks");
        p.most_cells = entry.at("most_cells");
        ops->AttendSampled(p);
        got.insert(got.end(), out.begin(), out.end());
      }
      const double error =
          MassError(conformance::ScoreError(*history_, q_), static_cast<double>(tokens_));
      const double bound = 2 * error * history_->value_size();
      conformance::ExpectWithin(ops->name() + ", " + entry.at("name").get<std::string>(), got,
                                want.data, [&](size_t) { return bound; });
    }
  }
}

}  // namespace
}  // namespace hga::golden
