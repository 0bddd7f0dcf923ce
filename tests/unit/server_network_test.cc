// SPDX-License-Identifier: Apache-2.0
// Connections under limits that are small enough to be reached: slow ones, many, greedy ones.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "apps/server/http_server.h"
#include "apps/server/server.h"

namespace hga::server {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Client {
 public:
  explicit Client(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int small = 4096;
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { Close(); }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  void Send(const std::string& text) { (void)send(fd_, text.data(), text.size(), MSG_NOSIGNAL); }
  // What comes until `wanted` is in it or the server closes.
  std::string ReadUntil(const std::string& wanted, double seconds = 10) {
    const auto start = Clock::now();
    while (seen_.find(wanted) == std::string::npos && SecondsSince(start) < seconds) {
      pollfd ready = {fd_, POLLIN, 0};
      if (poll(&ready, 1, 50) <= 0) continue;
      char buffer[4096];
      const ssize_t got = recv(fd_, buffer, sizeof(buffer), 0);
      if (got <= 0) {
        closed_ = true;
        break;
      }
      seen_.append(buffer, static_cast<size_t>(got));
    }
    return seen_;
  }
  bool closed() const { return closed_; }

 private:
  int fd_;
  bool connected_ = false;
  bool closed_ = false;
  std::string seen_;
};

// "/echo" answers with the body, "/hold" never, "/flood" as much as it can, "/throw" not at all.
class TestHandler : public HttpHandler {
 public:
  std::optional<HttpResponse> CheckHead(HttpRequest& request, const BodyHead&) override {
    if (request.path == "/no") return HttpResponse{404, "text/plain", "no"};
    return std::nullopt;
  }
  void Handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) override {
    if (request.path == "/echo") return writer->Respond({200, "text/plain", request.body});
    writer->OnClose([this] { ++left; });
    if (request.path == "/hold") {
      const std::lock_guard lock(mutex);
      held.push_back(writer);
      return;
    }
    writer->StartStream({200, "text/plain", ""}, "ping", 0.05);
    if (request.path == "/quiet") {
      const std::lock_guard lock(mutex);
      held.push_back(writer);
      return;
    }
    while (writer->Send(std::string(1000, 'x'))) sent += 1000;
    flood_ended = true;
  }
  HttpResponse Malformed(int status, const std::string& message) override {
    return {status, "text/plain", message};
  }
  void Log(const HttpRequest&, int status, double, const std::string&) override {
    last_status = status;
  }

  std::mutex mutex;
  std::vector<std::shared_ptr<ResponseWriter>> held;
  std::atomic<int> left{0}, last_status{0};
  std::atomic<int64_t> sent{0};
  std::atomic<bool> flood_ended{false};
};

class ServerNetwork : public testing::Test {
 protected:
  void SetUp() override {
    HttpOptions options;
    options.workers = 2;
    options.limits.head_seconds = 1;
    options.limits.body_idle_seconds = 1;
    options.limits.keep_alive_seconds = 1;
    options.limits.write_stall_seconds = 1;
    options.limits.connections = 20;
    options.limits.body_bytes = 1000;
    options.limits.bodies_bytes = 1500;
    options.limits.send_queue_bytes = 100000;
    auto started = HttpServer::Start(options, &handler_);
    ASSERT_TRUE(started.ok()) << started.status().message();
    server_ = std::move(*started);
  }
  static bool Eventually(const std::function<bool()>& condition) {
    const auto start = Clock::now();
    while (!condition() && SecondsSince(start) < 10) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return condition();
  }
  static std::string Post(const std::string& path, const std::string& body) {
    return "POST " + path +
           " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           body;
  }

  TestHandler handler_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(ServerNetwork, AConnectionServesRequestAfterRequest) {
  Client client(server_->port());
  for (const char* text : {"first", "second", "third"}) {
    client.Send(Post("/echo", text));
    EXPECT_NE(client.ReadUntil(text).find(text), std::string::npos);
  }
  client.Send(Post("/echo", "fourth") + Post("/echo", "fifth"));
  EXPECT_NE(client.ReadUntil("fifth").find("fourth"), std::string::npos);
}

TEST_F(ServerNetwork, ABodyInPiecesOfOneByteIsWhole) {
  Client client(server_->port());
  for (const char c : Post("/echo", "piecemeal")) client.Send(std::string(1, c));
  EXPECT_TRUE(client.ReadUntil("piecemeal").ends_with("piecemeal"));
}

TEST_F(ServerNetwork, SlowHeadsAndBodiesAndIdleConnectionsEnd) {
  const auto start = Clock::now();
  Client head(server_->port()), body(server_->port()), idle(server_->port());
  head.Send("GET / HT");
  body.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  for (Client* client : {&head, &body, &idle}) {
    client->ReadUntil("never");
    EXPECT_TRUE(client->closed());
  }
  EXPECT_LT(SecondsSince(start), 5);
}

TEST_F(ServerNetwork, ADrippingHeadDoesNotLiveLonger) {
  const auto start = Clock::now();
  Client client(server_->port());
  while (!client.closed() && SecondsSince(start) < 5) {
    client.Send("a");
    client.ReadUntil("never", 0.1);
  }
  EXPECT_LT(SecondsSince(start), 3);
}

TEST_F(ServerNetwork, LeavingIsNoticedWhileNothingIsSent) {
  Client whole(server_->port()), stream(server_->port());
  whole.Send(Post("/hold", ""));
  stream.Send(Post("/quiet", ""));
  EXPECT_NE(stream.ReadUntil("ping").find("ping"), std::string::npos);
  EXPECT_EQ(handler_.left, 0);
  whole.Close();
  EXPECT_TRUE(Eventually([&] { return handler_.left == 1; }));
  EXPECT_EQ(handler_.last_status, 499);
  stream.Close();
  EXPECT_TRUE(Eventually([&] { return handler_.left == 2; }));
}

TEST_F(ServerNetwork, AClientThatDoesNotReadCostsOneQueueAtMost) {
  Client client(server_->port());
  client.Send(Post("/flood", ""));
  EXPECT_TRUE(Eventually([&] { return handler_.flood_ended.load(); }));
  // What the system's own buffers took comes on top.
  EXPECT_LT(handler_.sent, 20'000'000);
  EXPECT_TRUE(Eventually([&] { return handler_.last_status == 499; }));
}

TEST_F(ServerNetwork, BodiesHaveOneBudgetTogether) {
  Client first(server_->port());
  first.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nabc");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  Client second(server_->port());
  second.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nabc");
  const std::string answer = second.ReadUntil("at a time");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 429")) << answer;
  EXPECT_NE(answer.find("Retry-After"), std::string::npos);
  first.Close();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  Client third(server_->port());
  third.Send(Post("/echo", std::string(900, 'y')));
  EXPECT_TRUE(third.ReadUntil(std::string(900, 'y')).starts_with("HTTP/1.1 200"));
}

TEST_F(ServerNetwork, BodiesAreCountedHoweverTheyCome) {
  Client client(server_->port());
  client.Send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; ++i) client.Send("40\r\n" + std::string(64, 'z') + "\r\n");
  EXPECT_TRUE(client.ReadUntil("1000 bytes").starts_with("HTTP/1.1 413"));
}

TEST_F(ServerNetwork, MoreConnectionsThanTheLimitAreClosed) {
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<Client>(server_->port()));
    clients.back()->Send(Post("/hold", ""));
  }
  EXPECT_TRUE(Eventually([&] {
    const std::lock_guard lock(handler_.mutex);
    return handler_.held.size() == 20;
  }));
  Client extra(server_->port());
  extra.Send(Post("/echo", "a"));
  extra.ReadUntil("never", 2);
  EXPECT_TRUE(extra.closed());
  clients.clear();
  EXPECT_TRUE(Eventually([&] { return handler_.left == 20; }));
  Client again(server_->port());
  again.Send(Post("/echo", "back"));
  EXPECT_NE(again.ReadUntil("back").find("back"), std::string::npos);
}

TEST_F(ServerNetwork, StoppingWaitsForAnswersAndForNothingElse) {
  Client idle(server_->port());
  Client busy(server_->port());
  busy.Send(Post("/hold", ""));
  ASSERT_TRUE(Eventually([&] {
    const std::lock_guard lock(handler_.mutex);
    return handler_.held.size() == 1;
  }));
  std::thread answer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    handler_.held.front()->Respond({200, "text/plain", "late"});
  });
  const auto start = Clock::now();
  server_->Stop(5);
  answer.join();
  EXPECT_NE(busy.ReadUntil("late").find("late"), std::string::npos);
  EXPECT_LT(SecondsSince(start), 4);
}

TEST(ServerLoading, SaysSoUntilTheModelIsThere) {
  ServerOptions options;
  options.port = 0;
  options.version = "v";
  const auto server = Server::Start(options);
  ASSERT_TRUE(server.ok()) << server.status().message();
  EXPECT_EQ((*server)->url(), "http://127.0.0.1:" + std::to_string((*server)->port()));
  const auto ask = [&](const std::string& line) {
    Client client((*server)->port());
    client.Send(line + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    return client.ReadUntil("}", 5);
  };
  for (const char* line : {"GET /health", "GET /v1/models", "POST /v1/chat/completions"}) {
    const std::string answer = ask(line);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 503")) << answer;
    EXPECT_NE(answer.find("Retry-After"), std::string::npos);
    EXPECT_NE(answer.find("\"code\":\"loading\""), std::string::npos);
  }
  EXPECT_TRUE(ask("GET /version").starts_with("HTTP/1.1 200"));
  EXPECT_TRUE(ask("GET /metrics").starts_with("HTTP/1.1 200"));
  (*server)->Refuse();
  EXPECT_NE(ask("GET /health").find("shutting_down"), std::string::npos);
}

}  // namespace
}  // namespace hga::server
