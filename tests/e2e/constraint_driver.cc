// SPDX-License-Identifier: Apache-2.0
// Writes answers under constraints, for comparison with another validator of JSON schemas.
//
//   constraint_driver MODEL_DIR
//
// Requests come on stdin, one JSON object a line: "schema" (text), "seed", "tokens" (most),
// "policy": "random" picks among the allowed tokens blindly, "model" draws from the model at
// temperature 1.5. For each a line of ASCII goes to stdout: {"refused": message} or {"finished":
// bool, "answer": text}. Ends with status 1 when a mask is empty where the answer may not end, or a
// finished answer is no JSON.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "hga/constraint.h"
#include "hga/engine.h"
#include "hga/sampler.h"

namespace {

using nlohmann::json;

hga::Status Fail(const std::string& message) { return hga::Internal(message); }

// The allowed tokens, and the end of the answer as one more.
struct Choices {
  std::vector<uint64_t> mask;
  std::vector<int32_t> ids;
  bool may_end = false;
};

class Driver {
 public:
  static hga::Result<Driver> Open(const std::string& directory) {
    Driver driver;
    HGA_ASSIGN_OR_RETURN(driver.engine_, hga::Engine::Open(directory, {}));
    HGA_ASSIGN_OR_RETURN(driver.vocabulary_,
                         hga::Grammar::MakeVocabulary(driver.engine_->tokenizer()));
    return driver;
  }

  hga::Result<json> Answer(const json& request) {
    const auto grammar =
        hga::Grammar::JsonSchema(vocabulary_, request["schema"].get<std::string>());
    if (!grammar.ok()) return json{{"refused", grammar.status().message()}};
    HGA_RETURN_IF_ERROR(Start(request));
    const auto constraint = (*grammar)->Start();
    std::vector<int32_t> answer;
    bool finished = false;
    while (!finished && answer.size() < request["tokens"].get<size_t>()) {
      const Choices choices = Look(*constraint);
      if (choices.ids.empty() && !choices.may_end) return Fail("a mask is empty");
      int32_t id = -1;
      if (request["policy"] == "model") {
        HGA_ASSIGN_OR_RETURN(id, FromModel(choices, answer));
      } else {
        id = Blindly(choices, answer.size());
      }
      finished = id < 0;
      if (finished) break;
      HGA_RETURN_IF_ERROR(constraint->Accept(id));
      answer.push_back(id);
    }
    HGA_ASSIGN_OR_RETURN(const std::string text,
                         engine_->tokenizer().Decode(answer, /*keep_special=*/true));
    if (finished && !json::accept(text)) return Fail("not JSON: " + text);
    if (!finished) return json{{"finished", false}};
    return json{{"finished", true}, {"answer", text}};
  }

 private:
  hga::Status Start(const json& request) {
    random_.seed(request["seed"].get<uint32_t>());
    if (request["policy"] != "model") return hga::OkStatus();
    sampler_ = std::make_unique<hga::Sampler>(
        hga::SamplingOptions{.temperature = 1.5, .seed = request["seed"].get<uint64_t>()});
    HGA_ASSIGN_OR_RETURN(sequence_, engine_->NewSequence(hga::AttentionConfig(),
                                                         request["tokens"].get<int64_t>() + 64));
    HGA_ASSIGN_OR_RETURN(const auto prompt,
                         engine_->tokenizer().Encode("The answer as JSON: ", false));
    return Feed(prompt);
  }

  hga::Status Feed(std::span<const int32_t> tokens) {
    logits_.resize(static_cast<size_t>(engine_->info().vocab));
    return engine_->Feed(*sequence_, tokens, hga::LogitsWanted::kLast, logits_, {});
  }

  Choices Look(hga::Constraint& constraint) const {
    const auto mask = constraint.Allowed();
    Choices choices{{mask.begin(), mask.end()}, {}, constraint.MayEnd()};
    for (size_t i = 0; i < mask.size() * 64; ++i) {
      if ((mask[i / 64] >> (i % 64) & 1) != 0) choices.ids.push_back(static_cast<int32_t>(i));
    }
    return choices;
  }

  // -1: ends. The longer the answer, the more often a token that closes something is taken.
  int32_t Blindly(const Choices& choices, size_t length) {
    if (choices.may_end && (choices.ids.empty() || random_() % 4 == 0)) return -1;
    std::vector<int32_t> closing;
    if (random_() % 100 < 10 + length) {
      for (const int32_t id : choices.ids) {
        const auto text = engine_->tokenizer().Decode({{id}}, false);
        if (text.ok() && text->find_first_of("\"}]") != text->npos) closing.push_back(id);
      }
    }
    const std::vector<int32_t>& from = closing.empty() ? choices.ids : closing;
    return from[random_() % from.size()];
  }

  hga::Result<int32_t> FromModel(const Choices& choices, const std::vector<int32_t>& answer) {
    std::vector<uint64_t> mask = choices.mask;
    const std::vector<int32_t>& ends = engine_->info().eos_ids;
    for (const int32_t id : ends) {
      if (choices.may_end) mask[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
    }
    const int32_t id = sampler_->Sample(logits_, {}, answer, mask);
    if (id < 0) return Fail("no token was chosen");
    if (std::find(ends.begin(), ends.end(), id) != ends.end()) return -1;
    HGA_RETURN_IF_ERROR(Feed({&id, 1}));
    return id;
  }

  std::unique_ptr<hga::Engine> engine_;
  std::shared_ptr<const hga::Grammar::Vocabulary> vocabulary_;
  std::unique_ptr<hga::Sequence> sequence_;
  std::unique_ptr<hga::Sampler> sampler_;
  std::vector<float> logits_;
  std::mt19937 random_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  auto driver = Driver::Open(argv[1]);
  if (!driver.ok()) {
    std::fprintf(stderr, "%s\n", driver.status().message().c_str());
    return 1;
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto answer = driver->Answer(json::parse(line));
    if (!answer.ok()) {
      std::fprintf(stderr, "%s\n%s\n", line.c_str(), answer.status().message().c_str());
      return 1;
    }
    std::printf("%s\n", answer->dump(-1, ' ', /*ensure_ascii=*/true).c_str());
  }
  return 0;
}
