#pragma once
// Bytes of a connection to requests, without a socket. The parser is Boost.Beast's, behind
// http/head_check.h.

#include <cstddef>
#include <memory>
#include <string_view>

#include "tools/serve/http/byte_budget.h"
#include "tools/serve/http/head_check.h"
#include "tools/serve/http/message.h"
#include "tools/serve/limits.h"

namespace heddle::serve {

/// Reads one request; the result does not depend on how its bytes are cut.
class RequestReader {
 public:
  enum class State {
    kIdle,      // nothing has come
    kHead,      // the head is not complete
    kBody,      // it is, the body is not
    kComplete,  // take()
    kRefused,   // refusal(); nothing more is read
  };

  /// `bodies`: what the bodies of all readers may take together; nullptr: anything.
  explicit RequestReader(const ServerLimits& limits, std::shared_ptr<ByteBudget> bodies = nullptr);
  ~RequestReader();
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

  /// Returns how many of `bytes` belong to this request.
  std::size_t push(std::string_view bytes);
  State state() const;
  /// In kBody, once: the client waits for "100 Continue".
  bool take_continue();
  /// kBody: the request without its body.
  HttpRequest head() const;
  /// kComplete: hands it out and begins anew.
  HttpRequest take();
  const Refusal& refusal() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace heddle::serve
