// SPDX-License-Identifier: Apache-2.0
// Heads of requests, read to the byte: what is taken, what is refused, and when.
#include <gtest/gtest.h>

#include "apps/server/http_head.h"
#include "apps/server/http_response.h"

namespace hga::server {
namespace {

HeadError Parse(const std::string& head, RequestHead* out) {
  HeadError error;
  const size_t length = FindHead(head, kLimits, &error);
  if (error.status != 0) return error;
  if (length == 0) return {-1, "not whole"};
  return ParseHead(std::string_view(head).substr(0, length), kLimits, out);
}

int StatusOf(const std::string& head) {
  RequestHead out;
  return Parse(head, &out).status;
}

TEST(RequestHead, SplitsTargetAndHeaders) {
  RequestHead head;
  ASSERT_EQ(Parse("POST /a/b?c=d?e HTTP/1.1\r\nHOST: x:1\r\nX-Y: \t v w \t\r\n"
                  "Content-Length: 007\r\n\r\nrest",
                  &head)
                .status,
            0);
  EXPECT_EQ(head.request.method, "POST");
  EXPECT_EQ(head.request.path, "/a/b");
  EXPECT_EQ(head.request.query, "c=d?e");
  EXPECT_EQ(*head.request.Find("host"), "x:1");
  EXPECT_EQ(*head.request.Find("x-y"), "v w");
  EXPECT_EQ(head.body.length, 7);
  EXPECT_FALSE(head.body.chunked);
  EXPECT_TRUE(head.keep_alive);
}

TEST(RequestHead, IsWholeAtItsEmptyLineOnly) {
  const std::string head = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  for (size_t cut = 0; cut < head.size(); ++cut) {
    HeadError error;
    EXPECT_EQ(FindHead(std::string_view(head).substr(0, cut), kLimits, &error), 0U) << cut;
    EXPECT_EQ(error.status, 0) << cut;
  }
  HeadError error;
  EXPECT_EQ(FindHead(head + "GET", kLimits, &error), head.size());
}

TEST(RequestHead, AbsoluteFormReplacesHost) {
  RequestHead head;
  ASSERT_EQ(Parse("GET http://a.example:8?q HTTP/1.1\r\nHost: b\r\n\r\n", &head).status, 400);
  head = {};
  ASSERT_EQ(Parse("GET HTTP://a.example:8/p?q HTTP/1.1\r\nHost: b\r\n\r\n", &head).status, 0);
  EXPECT_EQ(*head.request.Find("host"), "a.example:8");
  EXPECT_EQ(head.request.path, "/p");
}

TEST(RequestHead, ConnectionAndVersions) {
  RequestHead head;
  ASSERT_EQ(Parse("GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n", &head).status, 0);
  EXPECT_FALSE(head.keep_alive);
  head = {};
  ASSERT_EQ(Parse("GET / HTTP/1.0\r\n\r\n", &head).status, 0);
  EXPECT_FALSE(head.keep_alive);
  EXPECT_EQ(StatusOf("GET / HTTP/1.2\r\nHost: x\r\n\r\n"), 400);
}

TEST(RequestHead, LimitsAreExact) {
  const auto with_line = [](int64_t bytes) {
    const std::string rest = " HTTP/1.1";
    return "GET /" + std::string(static_cast<size_t>(bytes) - 5 - rest.size(), 'a') + rest +
           "\r\nHost: x\r\n\r\n";
  };
  EXPECT_EQ(StatusOf(with_line(kLimits.request_line_bytes - 2)), 0);
  EXPECT_EQ(StatusOf(with_line(kLimits.request_line_bytes + 1)), 414);
  const auto with_headers = [](int64_t count) {
    std::string head = "GET / HTTP/1.1\r\nHost: x\r\n";
    for (int64_t i = 1; i < count; ++i) head += "X: 1\r\n";
    return head + "\r\n";
  };
  EXPECT_EQ(StatusOf(with_headers(kLimits.headers)), 0);
  EXPECT_EQ(StatusOf(with_headers(kLimits.headers + 1)), 431);
}

TEST(RequestHead, EveryControlCharacterIsRefusedEverywhere) {
  for (int c = 0; c < 0x20; ++c) {
    const std::string one(1, static_cast<char>(c));
    const int in_name = StatusOf("GET / HTTP/1.1\r\nHost: x\r\nX" + one + "Y: 1\r\n\r\n");
    const int in_target = StatusOf("GET /a" + one + "b HTTP/1.1\r\nHost: x\r\n\r\n");
    const int in_value = StatusOf("GET / HTTP/1.1\r\nHost: x\r\nX: a" + one + "b\r\n\r\n");
    EXPECT_EQ(in_name, 400) << c;
    EXPECT_EQ(in_target, 400) << c;
    EXPECT_EQ(in_value, c == '\t' ? 0 : 400) << c;
  }
}

TEST(PercentDecode, TakesWholeCodesOnly) {
  std::string out;
  EXPECT_TRUE(PercentDecode("a%2Fb%41", &out));
  EXPECT_EQ(out, "a/bA");
  for (const char* bad : {"%", "%4", "a%4", "%zz", "%4g"}) EXPECT_FALSE(PercentDecode(bad, &out));
}

TEST(ResponseText, HasNoBodyForHeadAndNoLengthForStreams) {
  HttpRequest request;
  request.method = "HEAD";
  HttpResponse response{200, "text/plain", "abc"};
  const std::string head = ResponseText(response, request, {});
  EXPECT_NE(head.find("Content-Length: 3\r\n"), std::string::npos);
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
  request.method = "GET";
  EXPECT_TRUE(ResponseText(response, request, {}).ends_with("\r\n\r\nabc"));
  const std::string stream =
      ResponseText(response, request, {.keep_alive = true, .stream = true, .chunked = true});
  EXPECT_EQ(stream.find("Content-Length"), std::string::npos);
  EXPECT_NE(stream.find("Transfer-Encoding: chunked"), std::string::npos);
  std::string out;
  AppendPiece("0123456789abcdef", true, &out);
  AppendPiece("", true, &out);
  EXPECT_EQ(out, "10\r\n0123456789abcdef\r\n");
}

}  // namespace
}  // namespace hga::server
