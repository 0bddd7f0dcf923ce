// SPDX-License-Identifier: Apache-2.0
// What a handler sees of HTTP: a request with its body, and a way to answer. No library of HTTP.
#ifndef HGA_APPS_SERVER_HTTP_H_
#define HGA_APPS_SERVER_HTTP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hga::server {

struct Header {
  std::string name;  // lower case in requests
  std::string value;
};

struct HttpRequest {
  std::string method;
  std::string path;   // as sent, without the query
  std::string query;  // without '?'
  std::vector<Header> headers;
  std::string body;
  std::string peer;  // address

  // Set by the gate (Router::CheckHead).
  std::vector<Header> reply_headers;  // of every answer to it
  std::string owner;                  // whose kept K/V it may use

  // The first header of that name (lower case), nullptr without one.
  const std::string* Find(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string type = "application/json";
  std::string body;
  std::vector<Header> headers = {};
};

// The answer to one request: whole, or as a stream of pieces. Thread-safe. All calls after the
// client has left do nothing.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;
  virtual void Respond(HttpResponse response) = 0;
  // Instead of Respond: headers now, then pieces, then End. After each `ping_seconds` of silence
  // `ping` is sent (0: never).
  virtual void StartStream(HttpResponse head, std::string ping, double ping_seconds) = 0;
  // False once the client has left or does not read: nobody wants more.
  virtual bool Send(std::string bytes) = 0;
  virtual void End() = 0;
  virtual bool closed() const = 0;
  // Called at most once, on another thread, when the client leaves before the answer is complete;
  // at once if it has left.
  virtual void OnClose(std::function<void()> call) = 0;
  // For the line in the log.
  virtual void Note(std::string text) = 0;
};

// What a request's head says of its body.
struct BodyHead {
  bool chunked = false;
  int64_t length = 0;  // of Content-Length
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Before the body is read; a response refuses the request. Called on the network's thread.
  virtual std::optional<HttpResponse> CheckHead(HttpRequest& request, const BodyHead& body) = 0;
  // Called on a worker's thread.
  virtual void Handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) = 0;
  // The answer to bytes that are no HTTP.
  virtual HttpResponse Malformed(int status, const std::string& message) = 0;
  // After each answer. `status` 499: the client left first.
  virtual void Log(const HttpRequest& request, int status, double seconds,
                   const std::string& note) = 0;
};

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_HTTP_H_
