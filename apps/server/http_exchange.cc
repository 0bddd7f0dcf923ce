// SPDX-License-Identifier: Apache-2.0
// Callbacks are called without the lock, because they may come back here.
#include "apps/server/http_exchange.h"

#include <utility>

namespace hga::server {

void Exchange::Respond(HttpResponse response) {
  {
    const std::lock_guard lock(mutex_);
    if (started_ || closed_) return;
    started_ = ended_ = true;
    status_ = response.status;
    response_ = std::move(response);
  }
  wake_();
}

void Exchange::StartStream(HttpResponse head, std::string ping, double ping_seconds) {
  {
    const std::lock_guard lock(mutex_);
    if (started_ || closed_) return;
    started_ = stream_ = true;
    status_ = head.status;
    response_ = std::move(head);
    ping_ = std::move(ping);
    ping_seconds_ = ping_seconds;
  }
  wake_();
}

bool Exchange::Send(std::string bytes) {
  bool fits = true;
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || overflow_ || ended_) return false;
    // What waits is bounded; one long event may come on top.
    fits = static_cast<int64_t>(queue_.size()) <= queue_bytes_;
    if (fits) queue_ += bytes;
    overflow_ = !fits;
  }
  wake_();
  return fits;
}

void Exchange::End() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  wake_();
}

bool Exchange::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_ || overflow_;
}

void Exchange::OnClose(std::function<void()> call) {
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) {
      on_close_ = std::move(call);
      return;
    }
  }
  call();
}

void Exchange::Note(std::string text) {
  const std::lock_guard lock(mutex_);
  note_ = std::move(text);
}

Exchange::Ready Exchange::Take() {
  const std::lock_guard lock(mutex_);
  Ready ready;
  if (!started_) return ready;
  ready.head = !head_taken_;
  if (ready.head) ready.response = std::move(response_);
  head_taken_ = true;
  ready.stream = stream_;
  ready.bytes = std::exchange(queue_, "");
  ready.ended = ended_;
  ready.overflow = overflow_;
  if (ended_) on_close_ = nullptr;
  return ready;
}

void Exchange::Close() {
  std::function<void()> call;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    queue_.clear();
    call = std::exchange(on_close_, nullptr);
  }
  if (call) call();
}

int Exchange::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

std::string Exchange::note() const {
  const std::lock_guard lock(mutex_);
  return note_;
}

}  // namespace hga::server
