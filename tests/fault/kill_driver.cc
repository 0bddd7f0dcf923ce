// SPDX-License-Identifier: Apache-2.0
// A conversation that test_kill.py kills and starts again until it is over.
//
//   kill_driver MODEL DIRECTORY SESSION      K/V in DIRECTORY
//   kill_driver MODEL                        the same, all in memory, never saved
//
// A first prompt is fed and saved; then its end is edited, and the answer to the edited one is
// saved every 16 tokens. Lines on stdout, each complete when it is written: "resumed N",
// "acknowledged N", "editing", and "answer ID ID ..." at the end.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "hga/engine.h"
#include "hga/sampler.h"

namespace {

constexpr size_t kPrompt = 460, kCommon = 300, kEdited = 520, kAnswer = 80;
constexpr size_t kSaveEvery = 16;
constexpr int64_t kCapacity = 700;
constexpr int64_t kSlots = 120;  // cells of 4 KiB beside windows

void Say(const std::string& line) {
  std::string text = line;
  text += '\n';
  // A reader that is gone has no more questions.
  if (write(STDOUT_FILENO, text.data(), text.size()) < 0) return;
}

// Any ids make a prompt; the two agree up to kCommon.
std::vector<int32_t> Prompt(size_t tokens, uint64_t other, int vocab) {
  std::vector<int32_t> ids;
  uint64_t state = 5;
  for (size_t i = 0; i < tokens; ++i) {
    if (i == kCommon) state += other;
    state = state * 6364136223846793005u + 1442695040888963407u;
    ids.push_back(static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(vocab)));
  }
  return ids;
}

// Small windows, so that routing acts.
hga::AttentionConfig Rules() {
  hga::AttentionConfig config = *hga::PresetConfig("default");
  config.routing.sink_chunks = 1;
  config.routing.local_chunks = 1;
  config.routing.groups_budget = 12;
  return config;
}

class Conversation {
 public:
  Conversation(hga::Engine* engine, hga::Sequence* sequence, bool saved)
      : engine_(engine), sequence_(sequence), saved_(saved) {}

  hga::Status Hold() {
    const int vocab = engine_->info().vocab;
    const std::vector<int32_t> first = Prompt(kPrompt, 0, vocab);
    const std::vector<int32_t> edited = Prompt(kEdited, 1, vocab);
    const std::span<const int32_t> have = sequence_->tokens();
    if (have.size() <= kCommon || have[kCommon] == first[kCommon]) {
      HGA_RETURN_IF_ERROR(FeedRest(first));
      HGA_RETURN_IF_ERROR(Save());
      Say("editing");
      HGA_RETURN_IF_ERROR(sequence_->Truncate(kCommon));
    }
    logits_.resize(static_cast<size_t>(vocab));
    HGA_RETURN_IF_ERROR(FeedRest(edited));
    return Answer();
  }

 private:
  hga::Status Save() {
    if (!saved_) return hga::OkStatus();
    HGA_RETURN_IF_ERROR(sequence_->Checkpoint({}));
    Say("acknowledged " + std::to_string(sequence_->length()));
    return hga::OkStatus();
  }

  // Whatever of the prompt is not there yet; its last token is computed in any case.
  hga::Status FeedRest(const std::vector<int32_t>& prompt) {
    const auto length = static_cast<size_t>(sequence_->length());
    if (length > prompt.size()) return hga::OkStatus();
    const size_t keep = std::min(length, prompt.size() - 1);
    HGA_RETURN_IF_ERROR(sequence_->Truncate(static_cast<int64_t>(keep)));
    logits_.resize(static_cast<size_t>(engine_->info().vocab));
    return engine_->Feed(*sequence_, std::span(prompt).subspan(keep), hga::LogitsWanted::kLast,
                         logits_, {});
  }

  hga::Status Answer() {
    if (static_cast<size_t>(sequence_->length()) > kEdited) {
      const int32_t last = sequence_->tokens().back();
      HGA_RETURN_IF_ERROR(sequence_->Truncate(sequence_->length() - 1));
      HGA_RETURN_IF_ERROR(Step(last));
    }
    hga::Sampler sampler({});
    while (static_cast<size_t>(sequence_->length()) < kEdited + kAnswer) {
      HGA_RETURN_IF_ERROR(Step(sampler.Sample(logits_, {}, {})));
      if (static_cast<size_t>(sequence_->length()) % kSaveEvery == 0) HGA_RETURN_IF_ERROR(Save());
    }
    std::string line = "answer";
    for (const int32_t id : sequence_->tokens().subspan(kEdited)) {
      line.append(" ").append(std::to_string(id));
    }
    Say(line);
    return hga::OkStatus();
  }

  hga::Status Step(int32_t token) {
    return engine_->Feed(*sequence_, {&token, 1}, hga::LogitsWanted::kLast, logits_, {});
  }

  hga::Engine* engine_;
  hga::Sequence* sequence_;
  bool saved_;
  std::vector<float> logits_;
};

hga::Status Run(const std::string& model, const std::string& directory, const std::string& name) {
  hga::EngineOptions options;
  options.threads = 1;
  if (!directory.empty()) {
    options.kv.directory = directory;
    options.kv.host_bytes = kSlots * 4096;
    options.kv.allow_ram_directory = true;
  }
  HGA_ASSIGN_OR_RETURN(const auto engine, hga::Engine::Open(model, options));
  auto opened = directory.empty() ? engine->NewSequence(Rules(), kCapacity)
                                  : engine->OpenSession(name, Rules(), kCapacity);
  HGA_RETURN_IF_ERROR(opened.status());
  Say("resumed " + std::to_string((*opened)->length()));
  return Conversation(engine.get(), opened->get(), !directory.empty()).Hold();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 4) {
    std::fprintf(stderr, "usage: kill_driver MODEL [DIRECTORY SESSION]\n");
    return 2;
  }
  const hga::Status status = Run(argv[1], argc == 4 ? argv[2] : "", argc == 4 ? argv[3] : "");
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
