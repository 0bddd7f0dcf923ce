// SPDX-License-Identifier: Apache-2.0
// Connections as coroutines of Asio; bodies are read by Beast. Heads are read by http_head, which
// is stricter, and every wait has a deadline.
#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <set>
#include <thread>

#include "apps/server/http_exchange.h"
#include "apps/server/http_head.h"
#include "apps/server/http_response.h"
#include "apps/server/http_server.h"

namespace hga::server {
namespace {

namespace net = boost::asio;
namespace http = boost::beast::http;
using net::ip::tcp;
using Clock = std::chrono::steady_clock;
using net::experimental::awaitable_operators::operator||;

constexpr auto kWait = net::as_tuple(net::use_awaitable);

Clock::time_point After(double seconds) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// What connections share. Only the network's thread touches it, but for `workers`.
struct Network {
  net::io_context io{1};
  // Keeps `io` at work when nothing is open.
  net::executor_work_guard<net::io_context::executor_type> guard{io.get_executor()};
  net::thread_pool workers;
  Limits limits;
  HttpHandler* handler;
  std::atomic<int> connections{0};  // one may end with the last worker that knows it
  int64_t body_bytes = 0;           // of bodies being read or handled
  bool stopping = false;

  Network(const HttpOptions& options, HttpHandler* h)
      : workers(static_cast<size_t>(options.workers)), limits(options.limits), handler(h) {}
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Network* network, tcp::socket socket)
      : network_(*network), socket_(std::move(socket)), watchdog_(network->io), bell_(network->io) {
    boost::system::error_code ignored;
    const auto peer = socket_.remote_endpoint(ignored);
    if (!ignored) peer_ = peer.address().to_string();
    socket_.set_option(tcp::no_delay(true), ignored);
    ++network_.connections;
  }
  ~Connection() { --network_.connections; }

  void Start() {
    const auto self = shared_from_this();
    net::co_spawn(
        network_.io, [self] { return self->Watch(); }, net::detached);
    net::co_spawn(
        network_.io, [self] { return self->Serve(); }, net::detached);
  }
  // Ends the connection unless a request is being read or answered.
  void CloseIfIdle() {
    if (idle_) Close();
  }
  void Close() {
    boost::system::error_code ignored;
    socket_.close(ignored);
    watchdog_.cancel();
  }

 private:
  enum class Outcome { kNext, kClose, kLinger };

  // Ends every wait that takes too long.
  net::awaitable<void> Watch() {
    while (socket_.is_open()) {
      watchdog_.expires_at(deadline_);
      co_await watchdog_.async_wait(kWait);
      if (Clock::now() >= deadline_) Close();
    }
  }

  void Deadline(Clock::time_point when) {
    const bool earlier = when < deadline_;
    deadline_ = when;
    if (earlier) watchdog_.cancel();
  }
  void NoDeadline() { deadline_ = Clock::time_point::max(); }

  // Appends to buffer_; false when there is no more to come.
  net::awaitable<bool> Read() {
    const auto [error, count] = co_await socket_.async_read_some(net::buffer(chunk_), kWait);
    if (error) co_return false;
    buffer_.append(chunk_.data(), count);
    co_return true;
  }

  net::awaitable<bool> Write(std::string_view bytes) {
    Deadline(After(network_.limits.write_stall_seconds));
    while (!bytes.empty()) {
      const auto [error, count] =
          co_await socket_.async_write_some(net::buffer(bytes.data(), bytes.size()), kWait);
      if (error) co_return false;
      bytes.remove_prefix(count);
      Deadline(After(network_.limits.write_stall_seconds));
    }
    NoDeadline();
    co_return true;
  }

  net::awaitable<void> Serve() {
    Outcome outcome = Outcome::kNext;
    while (outcome == Outcome::kNext && socket_.is_open()) outcome = co_await OneRequest();
    if (outcome == Outcome::kLinger) co_await Linger();
    Close();
  }

  // What the client still sends is read for a while: closing at once would make its system throw
  // our answer away.
  net::awaitable<void> Linger() {
    constexpr int64_t kMost = 64 << 20;
    boost::system::error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    Deadline(After(2));
    for (int64_t seen = 0; seen < kMost; seen += static_cast<int64_t>(buffer_.size())) {
      buffer_.clear();
      if (!co_await Read()) co_return;
    }
  }

  net::awaitable<Outcome> Refuse(const HttpResponse& response, const HttpRequest& request) {
    const auto start = Clock::now();
    co_await Write(ResponseText(response, request, {.keep_alive = false}));
    Log(request, response.status, start, "");
    co_return Outcome::kLinger;
  }
  void Log(const HttpRequest& request, int status, Clock::time_point start,
           const std::string& note) {
    network_.handler->Log(request, status,
                          std::chrono::duration<double>(Clock::now() - start).count(), note);
  }

  net::awaitable<Outcome> OneRequest() {
    RequestHead head;
    head.request.peer = peer_;
    HeadError error;
    const size_t length = co_await ReadHead(&error);
    if (length == 0 && error.status == 0) co_return Outcome::kClose;
    if (error.status == 0) {
      error = ParseHead(std::string_view(buffer_).substr(0, length), network_.limits, &head);
    }
    if (error.status != 0) {
      co_return co_await Refuse(network_.handler->Malformed(error.status, error.message),
                                head.request);
    }
    if (auto refusal = network_.handler->CheckHead(head.request, head.body)) {
      co_return co_await Refuse(*refusal, head.request);
    }
    const int64_t reserved = head.body.chunked ? network_.limits.body_bytes : head.body.length;
    if (network_.body_bytes + reserved > network_.limits.bodies_bytes) {
      HttpResponse busy = network_.handler->Malformed(429, "too many large requests at a time");
      busy.headers.push_back({"Retry-After", "1"});
      co_return co_await Refuse(busy, head.request);
    }
    network_.body_bytes += reserved;
    error = co_await ReadBody(length, &head);
    if (error.status != 0) {
      network_.body_bytes -= reserved;
      if (error.status == kPeerLeft) co_return Outcome::kClose;
      co_return co_await Refuse(network_.handler->Malformed(error.status, error.message),
                                head.request);
    }
    co_return co_await Answer(std::move(head), reserved);
  }

  // The length of the next head in buffer_; 0 with an error, or without one when the peer left.
  net::awaitable<size_t> ReadHead(HeadError* error) {
    idle_ = buffer_.empty();
    Deadline(After(idle_ ? network_.limits.keep_alive_seconds : network_.limits.head_seconds));
    for (;;) {
      const size_t length = FindHead(buffer_, network_.limits, error);
      if (length > 0 || error->status != 0) break;
      if (idle_ && network_.stopping) co_return 0;
      if (!co_await Read()) co_return 0;
      if (idle_) Deadline(After(network_.limits.head_seconds));
      idle_ = false;
    }
    NoDeadline();
    idle_ = false;
    co_return FindHead(buffer_, network_.limits, error);
  }

  net::awaitable<HeadError> ReadBody(size_t head_length, RequestHead* head) {
    constexpr size_t kMostWithoutProgress = 16 << 10;  // a chunk's size line
    http::request_parser<http::string_body> parser;
    parser.eager(true);
    parser.header_limit(static_cast<uint32_t>(network_.limits.head_bytes));
    parser.body_limit(static_cast<uint64_t>(network_.limits.body_bytes));
    boost::system::error_code error;
    const size_t skip = buffer_.starts_with("\r\n") ? 2 : 0;
    parser.put(net::buffer(buffer_.data() + skip, head_length - skip), error);
    buffer_.erase(0, head_length);
    const auto last = After(network_.limits.body_seconds);
    if (head->expect_continue && buffer_.empty() && !parser.is_done()) {
      if (!co_await Write("HTTP/1.1 100 Continue\r\n\r\n")) co_return HeadError{kPeerLeft, ""};
    }
    bool read = false;
    while (!parser.is_done() && (!error || error == http::error::need_more)) {
      if (read || buffer_.empty()) {
        Deadline(std::min(After(network_.limits.body_idle_seconds), last));
        if (!co_await Read()) co_return HeadError{kPeerLeft, ""};
      }
      error = {};
      const size_t used = parser.put(net::buffer(buffer_), error);
      buffer_.erase(0, used);
      read = error == http::error::need_more;
      if (read && buffer_.size() > kMostWithoutProgress) break;
    }
    NoDeadline();
    if (error == http::error::body_limit) {
      co_return HeadError{
          413, fmt::format("the body has more than {} bytes", network_.limits.body_bytes)};
    }
    if (!parser.is_done()) co_return HeadError{400, "the body is not framed as the head says"};
    head->request.body = std::move(parser.get().body());
    co_return HeadError{};
  }

  net::awaitable<Outcome> Answer(RequestHead head, int64_t reserved) {
    const auto start = Clock::now();
    const auto self = shared_from_this();
    const auto exchange = std::make_shared<Exchange>(
        [weak = weak_from_this()] {
          if (const auto self = weak.lock()) {
            net::post(self->network_.io, [self] { self->Ring(); });
          }
        },
        network_.limits.send_queue_bytes);
    exchange_ = exchange;
    HttpRequest shown;  // what is left of the request for the head of the answer and the log
    shown.method = head.request.method;
    shown.path = head.request.path;
    shown.peer = head.request.peer;
    shown.reply_headers = head.request.reply_headers;
    const auto request = std::make_shared<HttpRequest>(std::move(head.request));
    net::post(network_.workers, [self, request, exchange, reserved] {
      self->network_.handler->Handle(std::move(*request), exchange);
      net::post(self->network_.io, [self, reserved] { self->network_.body_bytes -= reserved; });
    });
    const bool written = co_await WriteAnswer(shown, head, *exchange);
    if (!written) exchange->Close();
    Log(shown, written ? exchange->status() : 499, start, exchange->note());
    co_return written&& head.keep_alive && !network_.stopping ? Outcome::kNext : Outcome::kLinger;
  }

  net::awaitable<bool> WriteAnswer(const HttpRequest& request, const RequestHead& head,
                                   Exchange& exchange) {
    bool streaming = false;
    for (;;) {
      Exchange::Ready ready = exchange.Take();
      if (ready.overflow) co_return false;
      std::string out;
      streaming = ready.stream;
      const bool chunked = streaming && !head.http_1_0;
      if (ready.head) {
        const bool keep = head.keep_alive && !network_.stopping;
        out = ResponseText(ready.response, request,
                           {.keep_alive = keep, .stream = streaming, .chunked = chunked});
      }
      AppendPiece(ready.bytes, chunked, &out);
      if (ready.ended && chunked) out += "0\r\n\r\n";
      if (!out.empty() && !co_await Write(out)) co_return false;
      if (ready.ended) co_return true;
      if (!out.empty()) continue;
      const Event event = co_await Wait(streaming ? exchange.ping_seconds() : 0);
      if (event == Event::kLeft) co_return false;
      if (event != Event::kSilence) continue;
      out.clear();
      AppendPiece(exchange.ping(), chunked, &out);
      if (!co_await Write(out)) co_return false;
    }
  }

  // The answer under way has news.
  void Ring() {
    bell_.cancel();
    // A client that does not read is not waited for.
    if (const auto exchange = exchange_.lock(); exchange && exchange->closed()) Close();
  }

  enum class Event { kBell, kSilence, kLeft };

  // Until there is something to write, the peer leaves, or `seconds` (0: any time) have passed.
  net::awaitable<Event> Wait(double seconds) {
    bell_.expires_at(seconds > 0 ? After(seconds) : Clock::time_point::max());
    const auto result =
        co_await (bell_.async_wait(kWait) || socket_.async_read_some(net::buffer(chunk_), kWait));
    if (result.index() == 0) {
      const auto [error] = std::get<0>(result);
      co_return error ? Event::kBell : Event::kSilence;
    }
    const auto [error, count] = std::get<1>(result);
    if (error) co_return Event::kLeft;
    buffer_.append(chunk_.data(), count);
    const bool flood = static_cast<int64_t>(buffer_.size()) > network_.limits.pipelined_bytes;
    co_return flood ? Event::kLeft : Event::kBell;
  }

  static constexpr int kPeerLeft = -1;

  Network& network_;
  tcp::socket socket_;
  net::steady_timer watchdog_;
  net::steady_timer bell_;  // cancelled when the answer under way has news
  Clock::time_point deadline_ = Clock::time_point::max();
  std::array<char, 16384> chunk_;
  std::string buffer_;                // read, not yet used
  std::weak_ptr<Exchange> exchange_;  // of the request under way
  std::string peer_;
  bool idle_ = true;  // between two requests
};

class BeastServer : public HttpServer {
 public:
  BeastServer(const HttpOptions& options, HttpHandler* handler)
      : network_(options, handler), acceptor_(network_.io) {}
  ~BeastServer() override { Stop(0); }

  Status Listen(const HttpOptions& options) {
    boost::system::error_code error;
    const auto address = net::ip::make_address(options.host, error);
    if (error) return InvalidArgument(fmt::format("--host {}: not an address", options.host));
    const tcp::endpoint endpoint(address, static_cast<uint16_t>(options.port));
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(net::socket_base::max_listen_connections, error);
    if (!error) port_ = acceptor_.local_endpoint(error).port();
    if (error) {
      return IoError(fmt::format("{}:{}: {}", options.host, options.port, error.message()));
    }
    net::co_spawn(
        network_.io, [this] { return Accept(); }, net::detached);
    thread_ = std::thread([this] { network_.io.run(); });
    return OkStatus();
  }

  int port() const override { return port_; }
  void Post(std::function<void()> work) override { net::post(network_.workers, std::move(work)); }

  void Stop(double seconds) override {
    if (stopped_.exchange(true)) return;
    net::post(network_.io, [this] {
      network_.stopping = true;
      boost::system::error_code ignored;
      acceptor_.close(ignored);
      for (const auto& weak : open_) {
        if (const auto connection = weak.lock()) connection->CloseIfIdle();
      }
    });
    std::atomic<int> left{1};
    for (const auto until = After(seconds); left > 0 && Clock::now() < until;) {
      net::post(network_.io, [this, &left] { left = network_.connections.load(); });
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    network_.workers.stop();
    network_.workers.join();
    network_.io.stop();
    if (thread_.joinable()) thread_.join();
  }

 private:
  net::awaitable<void> Accept() {
    net::steady_timer pause(network_.io);
    while (acceptor_.is_open()) {
      auto [error, socket] = co_await acceptor_.async_accept(kWait);
      if (error == net::error::operation_aborted) co_return;
      if (error) {  // no descriptors left, most likely
        pause.expires_after(std::chrono::milliseconds(100));
        co_await pause.async_wait(kWait);
        continue;
      }
      std::erase_if(open_, [](const auto& weak) { return weak.expired(); });
      if (network_.connections >= network_.limits.connections) continue;  // closes it
      const auto connection = std::make_shared<Connection>(&network_, std::move(socket));
      open_.insert(connection);
      connection->Start();
    }
  }

  Network network_;
  tcp::acceptor acceptor_;
  std::set<std::weak_ptr<Connection>, std::owner_less<>> open_;
  std::thread thread_;
  int port_ = 0;
  std::atomic<bool> stopped_{false};
};

// One descriptor a connection, and some for the rest.
void AllowDescriptors(int count) {
  struct rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, std::max<rlim_t>(limit.rlim_cur, count));
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpOptions& options,
                                                      HttpHandler* handler) {
  AllowDescriptors(options.limits.connections + 256);
  auto server = std::make_unique<BeastServer>(options, handler);
  HGA_RETURN_IF_ERROR(server->Listen(options));
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace hga::server
