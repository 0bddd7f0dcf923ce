// SPDX-License-Identifier: Apache-2.0
// One answer on its way from a handler's thread to the network's: a bounded queue between them.
#ifndef HGA_APPS_SERVER_HTTP_EXCHANGE_H_
#define HGA_APPS_SERVER_HTTP_EXCHANGE_H_

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "apps/server/http.h"

namespace hga::server {

class Exchange : public ResponseWriter {
 public:
  // `wake` tells the network's thread that there is something to take. At most `queue_bytes` wait.
  Exchange(std::function<void()> wake, int64_t queue_bytes)
      : wake_(std::move(wake)), queue_bytes_(queue_bytes) {}

  void Respond(HttpResponse response) override;
  void StartStream(HttpResponse head, std::string ping, double ping_seconds) override;
  bool Send(std::string bytes) override;
  void End() override;
  bool closed() const override;
  void OnClose(std::function<void()> call) override;
  void Note(std::string text) override;

  // What there is to write now. Network's thread.
  struct Ready {
    bool head = false;      // write `response` first
    HttpResponse response;  // its body too, unless it is a stream
    bool stream = false;
    std::string bytes;
    bool ended = false;     // and nothing comes after that
    bool overflow = false;  // the client does not read: end the connection
  };
  Ready Take();
  // The client has left.
  void Close();
  const std::string& ping() const { return ping_; }  // once a stream's head was taken
  double ping_seconds() const { return ping_seconds_; }
  int status() const;
  std::string note() const;

 private:
  const std::function<void()> wake_;
  const int64_t queue_bytes_;
  mutable std::mutex mutex_;
  HttpResponse response_;
  std::string queue_;
  std::string ping_;
  double ping_seconds_ = 0;
  std::string note_;
  std::function<void()> on_close_;
  int status_ = 0;
  bool started_ = false;  // Respond or StartStream was called
  bool head_taken_ = false;
  bool stream_ = false;
  bool ended_ = false;
  bool overflow_ = false;
  bool closed_ = false;
};

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_HTTP_EXCHANGE_H_
