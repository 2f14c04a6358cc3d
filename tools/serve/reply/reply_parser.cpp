#include "tools/serve/reply/reply_parser.h"

#include <utility>

#include "base/error.h"

namespace heddle::serve {

ReplyParser::ReplyParser(ReplyStyle style, std::function<std::string()> make_call_id)
    : thoughts_(style.reasoning, style.reasoning_open),
      tools_(style.tools, std::move(style.declared), style.only_calls_or_text, style.only_calls),
      writer_(std::move(make_call_id)) {}

ReplyDelta ReplyParser::push(std::string_view text) {
  HEDDLE_CHECK(!finished_);
  for (const char c : text) thoughts_.step(c, tools_, writer_);
  return writer_.take();
}

ReplyDelta ReplyParser::finish(bool cut) {
  HEDDLE_CHECK(!finished_);
  finished_ = true;
  thoughts_.finish(tools_, writer_);
  tools_.finish(cut, writer_);
  return writer_.take();
}

Reply parse_reply(const ReplyStyle& style,
                  std::function<std::string()> make_call_id,
                  std::string_view text,
                  bool cut) {
  ReplyParser parser(style, std::move(make_call_id));
  Reply reply;
  reply.add(parser.push(text));
  reply.add(parser.finish(cut));
  return reply;
}

}  // namespace heddle::serve
