#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tools/needle/server_api.h"
#include "tools/needle/target.h"

namespace heddle::needle {

/// Greedy answers of a server, streamed. What fails is the reply's error: a status, a broken
/// stream, a timeout, a server that counts other tokens than the prompt has (it cut it, or
/// --tokenizer is another model's; two more are let pass). A 429 is tried again, up to six times,
/// after 1, 2, 4, ... seconds.
class UrlTarget final : public Target {
 public:
  /// `chat`: chat completions, else completions. `api` must outlive this.
  UrlTarget(ServerApi& api, bool chat) : api_(api), chat_(chat) {}
  void ask(Question question,
           std::function<void()> prefilled,
           std::function<void(Reply)> done) override;
  bool step() override;

 private:
  struct Asked;
  void send(const std::shared_ptr<Asked>& asked);
  void finish(const std::shared_ptr<Asked>& asked,
              serve::StreamedAnswer& answer,
              const serve::ClientResult& result);

  ServerApi& api_;
  bool chat_;
  std::size_t n_open_ = 0;
};

}  // namespace heddle::needle
