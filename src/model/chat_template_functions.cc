// SPDX-License-Identifier: Apache-2.0
// The functions that transformers gives to chat templates, and Jinja's own that they use.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "model/chat_template_builtins.h"

namespace hga::chat {
namespace {

using Function = Result<Value> (*)(Evaluator& run, const Call& call);

Result<Value> RaiseException(Evaluator& run, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"message"}, 1));
  HGA_ASSIGN_OR_RETURN(const Value::Text text, run.ToText(call.offset, *given[0]));
  constexpr size_t kMost = 1000;
  std::string message = text->bytes();
  if (message.size() > kMost) {
    size_t end = kMost;
    while ((static_cast<unsigned char>(message[end]) & 0xC0) == 0x80) --end;
    message.resize(end);
    message += "...";
  }
  return InvalidArgument("the chat template refuses this: " + message);
}

// The digits and names of one directive, in English; nothing for one that is not known.
std::optional<std::string> Directive(char directive, bool plain, const tm& t) {
  static constexpr const char* kMonths[] = {"January",   "February", "March",    "April",
                                            "May",       "June",     "July",     "August",
                                            "September", "October",  "November", "December"};
  static constexpr const char* kDays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                          "Thursday", "Friday", "Saturday"};
  const auto number = [plain](int value, int width) {
    return plain ? fmt::format("{}", value) : fmt::format("{:0{}}", value, width);
  };
  const std::string_view month = kMonths[std::clamp(t.tm_mon, 0, 11)];
  const std::string_view day = kDays[std::clamp(t.tm_wday, 0, 6)];
  const int hour12 = t.tm_hour % 12 == 0 ? 12 : t.tm_hour % 12;
  switch (directive) {
    case 'Y':
      return number(t.tm_year + 1900, 4);
    case 'y':
      return number(t.tm_year % 100, 2);
    case 'm':
      return number(t.tm_mon + 1, 2);
    case 'd':
      return number(t.tm_mday, 2);
    case 'H':
      return number(t.tm_hour, 2);
    case 'I':
      return number(hour12, 2);
    case 'M':
      return number(t.tm_min, 2);
    case 'S':
      return number(t.tm_sec, 2);
    case 'j':
      return number(t.tm_yday + 1, 3);
    default:
      break;
  }
  if (plain) return std::nullopt;
  switch (directive) {
    case 'B':
      return std::string(month);
    case 'b':
      return std::string(month.substr(0, 3));
    case 'A':
      return std::string(day);
    case 'a':
      return std::string(day.substr(0, 3));
    case 'p':
      return t.tm_hour < 12 ? "AM" : "PM";
    case '%':
      return "%";
    default:
      return std::nullopt;
  }
}

Result<Value> StrftimeNow(Evaluator& run, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"format"}, 1));
  HGA_ASSIGN_OR_RETURN(const TrackedText* format, TextArgument(run, call, *given[0], "format"));
  constexpr size_t kMost = 256;
  if (format->size() > kMost) return run.Exhausted(call.offset, "a format of more than 256 bytes");
  const time_t now = ::time(nullptr);
  tm local{};
  if (localtime_r(&now, &local) == nullptr) return run.Error(call.offset, "there is no local time");
  TrackedText out;
  TrustCursor trust(*format);
  const std::string& bytes = format->bytes();
  for (size_t at = 0; at < bytes.size(); ++at) {
    const bool trusted = trust.At(at);
    if (bytes[at] != '%') {
      out.Append(bytes.substr(at, 1), trusted);
      continue;
    }
    const bool plain = at + 1 < bytes.size() && bytes[at + 1] == '-';
    at += plain ? 2 : 1;
    const auto text = Directive(at < bytes.size() ? bytes[at] : '\0', plain, local);
    if (!text) {
      return run.Error(call.offset,
                       fmt::format("strftime_now: the format {} is not known", Quoted(bytes)));
    }
    out.Append(*text, trusted);
  }
  return run.MakeText(call.offset, std::move(out));
}

Result<Value> Range(Evaluator& run, const Call& call) {
  if (!call.named.empty() || call.arguments.empty() || call.arguments.size() > 3) {
    return run.Error(call.offset, "range takes one to three whole numbers");
  }
  int64_t bounds[3] = {0, 0, 1};
  bool from_input = false;
  for (size_t i = 0; i < call.arguments.size(); ++i) {
    HGA_ASSIGN_OR_RETURN(bounds[i], IntegerArgument(run, call, call.arguments[i], "bound"));
    from_input |= call.arguments[i].from_input();
  }
  if (call.arguments.size() == 1) std::swap(bounds[0], bounds[1]);
  const int64_t step = bounds[2];
  if (step == 0) return run.Error(call.offset, "range: the step is 0");
  constexpr size_t kMost = 100'000;  // as Jinja's sandbox
  std::vector<Value> items;
  for (int64_t at = bounds[0]; step > 0 ? at < bounds[1] : at > bounds[1];) {
    if (items.size() == kMost) {
      return run.Exhausted(call.offset, fmt::format("range: more than {} numbers", kMost));
    }
    items.emplace_back(at, from_input);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return run.MakeList(call.offset, std::move(items), ListKind::kRange);
}

// Keywords on top of an optional dict.
Result<DictValue> Fields(Evaluator& run, const Call& call) {
  DictValue fields;
  if (call.arguments.size() > 1) {
    return run.Error(call.offset, fmt::format("{} takes one dict and keywords", call.name));
  }
  if (!call.arguments.empty()) {
    const DictValue* given = call.arguments[0].dict();
    if (given == nullptr) {
      return run.Error(call.offset, fmt::format("{}: a dict is needed, not {}", call.name,
                                                call.arguments[0].TypeName()));
    }
    HGA_RETURN_IF_ERROR(run.Charge(call.offset, given->items.size()));
    fields = *given;
  }
  for (const auto& [name, value] : call.named) fields.Set(TextValue(name, true), value);
  return fields;
}

Result<Value> Dict(Evaluator& run, const Call& call) {
  HGA_ASSIGN_OR_RETURN(DictValue fields, Fields(run, call));
  return run.MakeDict(call.offset, std::move(fields));
}

Result<Value> Namespace(Evaluator& run, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const DictValue fields, Fields(run, call));
  auto space = std::make_shared<NamespaceValue>();
  for (const auto& [key, value] : fields.items) {
    if (key.text() == nullptr || !value.IsData()) {
      return run.Error(call.offset, value.TypeName() + " can't be kept in a namespace");
    }
    space->fields[key.text()->bytes()] = value;
  }
  return Value(Value::Namespace(std::move(space)));
}

constexpr std::pair<const char*, Function> kFunctions[] = {{"dict", Dict},
                                                           {"namespace", Namespace},
                                                           {"raise_exception", RaiseException},
                                                           {"range", Range},
                                                           {"strftime_now", StrftimeNow}};

}  // namespace

std::vector<std::string> FunctionNames() {
  std::vector<std::string> names;
  for (const auto& [name, unused] : kFunctions) names.emplace_back(name);
  return names;
}

Result<Value> RunFunction(Evaluator& run, const Call& call) {
  for (const auto& [name, function] : kFunctions) {
    if (call.name == name) return function(run, call);
  }
  return run.Error(call.offset, fmt::format("the function {} is not known", Quoted(call.name)));
}

}  // namespace hga::chat
