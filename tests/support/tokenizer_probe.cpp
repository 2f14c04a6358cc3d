// Runs a tokenizer on the requests of standard input, for tests that compare it with a reference.
//
//   tokenizer_probe folder DIR ROWS | tokenizer_probe gguf FILE
//
// A request is a line: a letter and bytes in hexadecimal, or ids.
//   S TEXT  encode, special tokens parsed, BOS and EOS added    P TEXT  encode as plain text
//   N TEXT  encode, special tokens parsed, nothing added        D IDS   decode
//   B TEXT RANGES  as N, with plain ranges "begin-end,..."
// The answer of an encoding is its ids, of a decoding four texts in hexadecimal: whole and
// streamed, without and with special tokens. An error is "! TEXT".
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>

#include "base/mapped_file.h"
#include "models/folder.h"
#include "models/folder_tokenizer.h"
#include "models/gguf.h"
#include "models/gguf_keys.h"
#include "models/gguf_tokenizer.h"
#include "models/tokenizer/tokenizer.h"

namespace heddle {
namespace {

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

std::string to_hex(const std::string& bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex.push_back(kDigits[byte >> 4U]);
    hex.push_back(kDigits[byte & 15U]);
  }
  return hex.empty() ? "-" : hex;
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool special) {
  StreamDecoder stream;
  DecodeState state;
  std::string text;
  for (const TokenId id : ids) text += stream.push(tokenizer.next_bytes(id, state, special));
  return text + stream.finish();
}

std::vector<ByteRange> ranges_of(const std::string& text) {
  std::vector<ByteRange> ranges;
  std::istringstream parts(text);
  std::size_t begin = 0;
  std::size_t end = 0;
  char mark = 0;
  while (parts >> begin >> mark >> end) {
    ranges.push_back({begin, end});
    parts >> mark;
  }
  return ranges;
}

std::string answer(const Tokenizer& tokenizer, const std::string& line) {
  std::istringstream request(line);
  std::string kind;
  request >> kind;
  std::ostringstream out;
  if (kind == "D") {
    std::vector<TokenId> ids;
    for (TokenId id = 0; request >> id;) ids.push_back(id);
    out << to_hex(tokenizer.decode(ids, false)) << ' ' << to_hex(streamed(tokenizer, ids, false))
        << ' ' << to_hex(tokenizer.decode(ids, true)) << ' '
        << to_hex(streamed(tokenizer, ids, true));
    return out.str();
  }
  std::string hex;
  std::string ranges;
  request >> hex >> ranges;
  EncodeOptions options;
  options.add_special = kind == "S";
  options.parse_special = kind != "P";
  if (kind == "B") options.plain = ranges_of(ranges);
  const char* space = "";
  for (const TokenId id : tokenizer.encode(from_hex(hex), options)) {
    out << space << id;
    space = " ";
  }
  return out.str();
}

std::unique_ptr<const Tokenizer> open_tokenizer(int argc, char** argv) {
  const std::string kind = argc > 1 ? argv[1] : "";
  if (kind == "folder" && argc == 4) {
    return folder_tokenizer(Folder(argv[2]), std::stoi(argv[3])).tokenizer;
  }
  if (kind == "gguf" && argc == 3) {  // its tokenizer's keys are enough
    const MappedFile file(argv[2]);
    const GgufDirectory directory = GgufDirectory::parse(file.bytes(), argv[2]);
    const auto rows = GgufKeys(directory, "tokenizer")
                          .array_length("tokenizer.ggml.tokens", GgufKind::kString)
                          .value_or(0);
    return make_tokenizer(read_gguf_tokenizer(directory, static_cast<int>(rows)));
  }
  throw std::runtime_error("usage: tokenizer_probe folder DIR ROWS | gguf FILE");
}

int run(int argc, char** argv) {
  const auto tokenizer = open_tokenizer(argc, argv);
  std::cout << tokenizer->describe() << '\n';
  for (std::string line; std::getline(std::cin, line);) {
    try {
      std::cout << answer(*tokenizer, line) << '\n';
    } catch (const std::exception& error) {
      std::cout << "! " << error.what() << '\n';
    }
  }
  return 0;
}

}  // namespace
}  // namespace heddle

int main(int argc, char** argv) {
  try {
    return heddle::run(argc, argv);
  } catch (const std::exception& error) {
    std::cout << "! " << error.what() << '\n';
    return 2;
  }
}
