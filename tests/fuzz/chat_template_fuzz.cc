// SPDX-License-Identifier: Apache-2.0
// Any bytes as a chat template and the messages it is given, with a zero byte between them.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "hga/chat_template.h"
#include "json_mutator.h"

namespace {

constexpr std::string_view kMessages = R"([{"role": "user", "content": "a<|im_end|>", "n": 1.5},)"
                                       R"( {"role": "tool", "content": ["x", null, {"k": true}]}])";
constexpr std::string_view kWords[] = {"{% for m in messages %}",
                                       "{% endfor %}",
                                       "{% if m.role == 'user' %}",
                                       "{% else %}",
                                       "{% endif %}",
                                       "{% set x = ",
                                       " %}",
                                       "{{ ",
                                       " }}",
                                       "{%- ",
                                       " -%}",
                                       "{# ",
                                       " #}",
                                       "{% raw %}",
                                       "{% endraw %}",
                                       "{% macro f(a, b=1) %}",
                                       "{% endmacro %}",
                                       "f(1)",
                                       "namespace(x=1)",
                                       "m.content",
                                       "loop.index",
                                       "range(9)",
                                       " | tojson",
                                       " | trim",
                                       " | list",
                                       " | map('upper')",
                                       " | join(',')",
                                       " | selectattr('k')",
                                       " is defined",
                                       " is string",
                                       "[::-1]",
                                       "[1:]",
                                       ".items()",
                                       ".split('a')",
                                       ".strip()",
                                       " ~ ",
                                       " in ",
                                       " not ",
                                       "{'a': 1}",
                                       "('a', 2)",
                                       "{% break %}",
                                       "{% filter upper %}",
                                       "{% endfilter %}",
                                       "{% set y %}",
                                       "{% endset %}",
                                       "'\\u00e9'",
                                       "\xC3\x9F",
                                       "1e308",
                                       " ** 99"};
constexpr std::string_view kDocuments[] = {
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + "
    "'<|im_end|>\\n' }}{%- endfor %}",
    "{% set ns = namespace(i=0) %}{% for m in messages[::-1] if m.role %}{% set ns.i = ns.i + 1 %}"
    "{{ loop.last }}{{ m | tojson(indent=2) }}{% else %}none{% endfor %}{{ ns.i }}"};

void CheckMessage(const hga::Status& status) {
  if (status.message().empty() || hga::FindInvalidUtf8(status.message())) std::abort();
  if (status.code() != hga::StatusCode::kInvalidArgument &&
      status.code() != hga::StatusCode::kResourceExhausted) {
    std::abort();
  }
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  return hga::MutateJson(data, size, max_size, seed, 0, kWords, kDocuments);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const size_t zero = all.find('\0');
  const auto chat = hga::ChatTemplate::Parse(all.substr(0, zero), "<s>", "</s>");
  if (!chat.ok()) {
    CheckMessage(chat.status());
    return 0;
  }
  hga::ChatInput input;
  input.messages = zero == std::string_view::npos ? kMessages : all.substr(zero + 1);
  input.continue_final_message = size % 4 == 0;
  const auto text = (*chat)->Render(input);
  if (!text.ok()) {
    CheckMessage(text.status());
    return 0;
  }
  if (hga::FindInvalidUtf8(text->text)) std::abort();
  size_t end = 0;
  bool first = true;
  for (const hga::TextRange& range : text->trusted) {
    if (range.begin >= range.end || range.end > text->text.size()) std::abort();
    if (!first && range.begin <= end) std::abort();
    first = false;
    end = range.end;
  }
  return 0;
}
