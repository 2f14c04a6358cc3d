#include "models/tokenizer/sentencepiece_proto.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/charsmap.h"
#include "models/tokenizer/spm_bpe.h"
#include "models/tokenizer/token_decoder.h"
#include "models/tokenizer/token_table.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

constexpr std::size_t kMaxPieces = std::size_t{1} << 22U;

/// One field of a message.
struct Field {
  std::uint64_t number = 0;
  int wire = 0;              // 0 varint, 1 eight bytes, 2 bytes, 5 four bytes
  std::uint64_t varint = 0;  // wire 0
  std::string_view bytes;    // the others
};

class Reader {
 public:
  Reader(std::string_view file, std::string source) : file_(file), source_(std::move(source)) {}

  SentencePieceModel read() {
    each(file_, [&](const Field& field) {
      if (field.number == 1) {
        expect(field, 2, "piece");
        piece(field.bytes);
      } else if (field.number == 2) {
        once(field, has_trainer_, "trainer_spec");
        each(field.bytes, [&](const Field& f) { trainer(f); });
      } else if (field.number == 3) {
        once(field, has_normalizer_, "normalizer_spec");
        each(field.bytes, [&](const Field& f) { normalizer(f, false); });
      } else if (field.number == 5) {
        once(field, has_denormalizer_, "denormalizer_spec");
        each(field.bytes, [&](const Field& f) { normalizer(f, true); });
      } else if (field.number != 4) {
        fail("fields", fmt::format("number {}", field.number), "1 to 5");
      }
    });
    check_pieces();
    return std::move(model_);
  }

 private:
  [[noreturn]] void fail(std::string_view what,
                         std::string_view got,
                         std::string_view allowed) const {
    throw bad_input(
        fmt::format("{}: tokenizer: {}, got {}, allowed {}", source_, what, got, allowed));
  }
  void expect(const Field& field, int wire, std::string_view what) const {
    if (field.wire == wire) return;
    fail(what, fmt::format("wire type {}", field.wire), fmt::format("{}", wire));
  }
  void once(const Field& field, bool& seen, std::string_view what) const {
    expect(field, 2, what);
    if (seen) fail(what, "two", "one");
    seen = true;
  }

  std::uint64_t varint(std::string_view message, std::size_t& pos) const {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (pos >= message.size()) break;
      const auto byte = static_cast<unsigned char>(message[pos++]);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    fail("file", "a number without an end", "a SentencePiece model");
  }

  template <typename F>
  void each(std::string_view message, const F& f) const {
    for (std::size_t pos = 0; pos < message.size();) {
      const std::uint64_t key = varint(message, pos);
      Field field{key >> 3U, static_cast<int>(key & 7U), 0, {}};
      std::uint64_t size = 0;
      if (field.wire == 0) {
        field.varint = varint(message, pos);
      } else if (field.wire == 1 || field.wire == 5) {
        size = field.wire == 1 ? 8 : 4;
      } else if (field.wire == 2) {
        size = varint(message, pos);
      } else {
        fail("file", fmt::format("wire type {}", field.wire), "a SentencePiece model");
      }
      if (field.number == 0 || size > message.size() - pos) {
        fail("file",
             fmt::format("a field {} of {} bytes where {} are left", field.number, size,
                         message.size() - pos),
             "a SentencePiece model");
      }
      field.bytes = message.substr(pos, size);
      pos += size;
      f(field);
    }
  }

  void piece(std::string_view message) {
    SentencePieceModel::Piece piece;
    each(message, [&](const Field& field) {
      if (field.number == 1) {
        expect(field, 2, "piece text");
        piece.text = field.bytes;
      } else if (field.number == 2) {
        expect(field, 5, "piece score");
        std::memcpy(&piece.score, field.bytes.data(), sizeof(piece.score));
      } else if (field.number == 3) {
        expect(field, 0, "piece type");
        if (field.varint < 1 || field.varint > 6) {
          fail(fmt::format("type of piece {}", model_.pieces.size()),
               fmt::format("{}", field.varint), "1 to 6");
        }
        piece.kind = static_cast<TokenKind>(field.varint);
      } else {
        fail("fields of a piece", fmt::format("number {}", field.number), "1 to 3");
      }
    });
    if (model_.pieces.size() == kMaxPieces) {
      fail("pieces", fmt::format("more than {}", kMaxPieces), "fewer");
    }
    model_.pieces.push_back(piece);
  }

  void trainer(const Field& field) {
    const auto id = [&](TokenId& place, std::string_view name) {
      expect(field, 0, name);
      place = static_cast<TokenId>(static_cast<std::uint32_t>(field.varint));
    };
    if (field.number == 3) {
      expect(field, 0, "model_type");
      if (field.varint != 1 && field.varint != 2) {
        fail("model_type", fmt::format("{}", field.varint), "1 (unigram), 2 (bpe)");
      }
      model_.bpe = field.varint == 2;
    } else if (field.number == 24 && field.varint != 0) {
      fail("treat_whitespace_as_suffix", "true", "false");
    } else if (field.number == 35) {
      model_.byte_fallback = field.varint != 0;
    } else if (field.number == 40) {
      id(model_.unk, "unk_id");
    } else if (field.number == 41) {
      id(model_.bos, "bos_id");
    } else if (field.number == 42) {
      id(model_.eos, "eos_id");
    } else if (field.number == 43) {
      id(model_.pad, "pad_id");
    }
  }

  void normalizer(const Field& field, bool denormalizer) {
    if (field.number == 2) {
      expect(field, 2, "precompiled_charsmap");
      if (!field.bytes.empty()) charsmap(field.bytes, denormalizer);
    } else if (field.number == 3) {
      if (!denormalizer) model_.add_dummy_prefix = field.varint != 0;
    } else if (field.number == 4) {
      if (!denormalizer) model_.remove_extra_whitespaces = field.varint != 0;
    } else if (field.number == 5 && field.varint == 0 && !denormalizer) {
      fail("escape_whitespaces", "false", "true");
    }
  }

  void charsmap(std::string_view blob, bool denormalizer) {
    model_.charsmap = blob;
    if (denormalizer) fail("denormalizer_spec", "a character map", "none");
    try {
      Charsmap(blob).check_for_library();
    } catch (const Error& error) {
      fail("precompiled_charsmap", error.what(), "one that SentencePiece wrote");
    }
  }

  void check_pieces() const {
    if (!has_trainer_ || !has_normalizer_) {
      fail("file", "no trainer_spec or normalizer_spec", "a SentencePiece model");
    }
    TokenTable seen(model_.pieces.size());
    std::size_t unknown = 0;
    for (std::size_t i = 0; i < model_.pieces.size(); ++i) {
      const SentencePieceModel::Piece& piece = model_.pieces[i];
      const auto refuse = [&](std::string_view allowed) {
        fail(fmt::format("piece {}", i),
             fmt::format("{} of {} bytes", quote_text(piece.text), piece.text.size()), allowed);
      };
      if (piece.text.empty() || piece.text.size() > SpmBpe::kMaxPiece ||
          !is_valid_utf8(piece.text) || piece.text.find('\0') != std::string_view::npos) {
        refuse(fmt::format("UTF-8 of 1 to {} bytes without NUL", SpmBpe::kMaxPiece));
      }
      if (seen.insert(piece.text, static_cast<TokenId>(i)) >= 0) refuse("distinct pieces");
      if (piece.kind == TokenKind::kByte && byte_of_token(piece.text) < 0) {
        refuse("<0x00> to <0xFF> for bytes");
      }
      if (!std::isfinite(piece.score))
        fail(fmt::format("score of piece {}", i), "no number", "one");
      unknown += piece.kind == TokenKind::kUnknown ? 1 : 0;
    }
    if (unknown != 1) fail("unknown pieces", fmt::format("{}", unknown), "1");
    const auto size = static_cast<TokenId>(model_.pieces.size());
    const auto check = [&](std::string_view name, TokenId id) {
      if (id >= size || id < -1)
        fail(name, fmt::format("{}", id), fmt::format("-1 to {}", size - 1));
    };
    check("unk_id", model_.unk);
    check("bos_id", model_.bos);
    check("eos_id", model_.eos);
    check("pad_id", model_.pad);
  }

  std::string_view file_;
  std::string source_;
  SentencePieceModel model_;
  bool has_trainer_ = false, has_normalizer_ = false, has_denormalizer_ = false;
};

}  // namespace

SentencePieceModel read_sentencepiece(std::string_view file, const std::string& source) {
  return Reader(file, source).read();
}

}  // namespace heddle
