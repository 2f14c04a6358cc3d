#include "models/pickle_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "models/pickle_tensors.h"
#include "models/quote_text.h"
#include "models/tokenizer/utf8.h"

namespace heddle::pickle {
namespace {

constexpr std::array<Global, 13> kGlobals = {
    {{"collections", "OrderedDict", Use::kOrderedDict},
     {"torch._utils", "_rebuild_tensor_v2", Use::kTensor},
     {"torch._utils", "_rebuild_parameter", Use::kParameter},
     {"torch", "BFloat16Storage", Use::kStorage, "BF16", 2, DType::kBF16},
     {"torch", "HalfStorage", Use::kStorage, "F16", 2, DType::kF16},
     {"torch", "FloatStorage", Use::kStorage, "F32", 4, DType::kF32},
     {"torch", "DoubleStorage", Use::kStorage, "F64", 8},
     {"torch", "LongStorage", Use::kStorage, "I64", 8},
     {"torch", "IntStorage", Use::kStorage, "I32", 4},
     {"torch", "ShortStorage", Use::kStorage, "I16", 2},
     {"torch", "CharStorage", Use::kStorage, "I8", 1},
     {"torch", "ByteStorage", Use::kStorage, "U8", 1},
     {"torch", "BoolStorage", Use::kStorage, "BOOL", 1}}};

constexpr std::string_view kAllowedGlobals =
    "collections.OrderedDict, torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter, "
    "torch.BFloat16Storage, HalfStorage, FloatStorage and those of integers";

class Machine {
 public:
  Machine(std::span<const std::byte> pickle, const std::string& source)
      : pickle_(reinterpret_cast<const char*>(pickle.data()), pickle.size()), source_(source) {}

  Graph run() {
    if (pickle_.size() > PickleLimits::kBytes) {
      throw error(
          fmt::format("bytes, got {}, allowed up to {}", pickle_.size(), PickleLimits::kBytes));
    }
    if (take_byte() != 0x80 || take_byte() != 2) {
      throw error(fmt::format("protocol, got {}, allowed 2",
                              pickle_[0] == '\x80' ? std::to_string(byte_at(1)) : "none"));
    }
    while (step()) {
    }
    if (at_ != pickle_.size()) {
      throw error(fmt::format("bytes behind its end, got {}, allowed 0", pickle_.size() - at_));
    }
    graph_.top = pop();
    if (!stack_.empty()) throw error("result, got several values, allowed one");
    return std::move(graph_);
  }

 private:
  Error error(const std::string& text) const { return pickle_error(source_, text); }
  /// Of the opcode that is being read.
  Error error_here(std::string_view what, std::string_view got, std::string_view allowed) const {
    return error(fmt::format("{} at byte {}, got {}, allowed {}", what, opcode_at_, got, allowed));
  }
  static std::size_t index(const Value& value) { return static_cast<std::size_t>(value.number); }

  // --- bytes

  unsigned byte_at(std::size_t at) const { return static_cast<unsigned char>(pickle_[at]); }

  std::string_view take(std::uint64_t n) {
    if (n > pickle_.size() - at_) {
      throw error(fmt::format("truncated at byte {}: needs {} bytes, got {}, allowed whole opcodes",
                              at_, n, pickle_.size() - at_));
    }
    const std::string_view bytes = pickle_.substr(at_, n);
    at_ += n;
    return bytes;
  }
  unsigned take_byte() { return static_cast<unsigned char>(take(1)[0]); }
  template <typename T>
  T take_number() {
    static_assert(std::endian::native == std::endian::little);
    T value = 0;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string_view take_line() {
    const std::size_t end = pickle_.substr(at_, PickleLimits::kTextBytes).find('\n');
    if (end == std::string_view::npos) {
      throw error_here("GLOBAL", "a name without an end", kAllowedGlobals);
    }
    const std::string_view line = take(end);
    take(1);
    return line;
  }

  // --- stack

  void push(Kind kind, std::int64_t number = 0) {
    if (stack_.size() >= PickleLimits::kStack) {
      throw error_here("stack", "more values", fmt::format("up to {}", PickleLimits::kStack));
    }
    if (++n_values_ > PickleLimits::kValues) {
      throw error_here("values", "more", fmt::format("up to {}", PickleLimits::kValues));
    }
    stack_.push_back({kind, number});
  }
  /// A new object of a pool: its number.
  template <typename T>
  std::int64_t add(std::vector<T>& pool, T object) {
    if (++n_objects_ > PickleLimits::kObjects) {
      throw error_here("objects", "more", fmt::format("up to {}", PickleLimits::kObjects));
    }
    pool.push_back(std::move(object));
    return static_cast<std::int64_t>(pool.size() - 1);
  }
  const Value& top() const {
    if (stack_.empty() || stack_.back().kind == Kind::kMark) {
      throw error_here("stack", "nothing on it", "a value");
    }
    return stack_.back();
  }
  Value pop() {
    const Value value = top();
    stack_.pop_back();
    return value;
  }
  Value pop(Kind kind, std::string_view what) {
    const Value value = pop();
    if (value.kind != kind) {
      throw error_here(what, kind_name(value), kind_name(kind));
    }
    return value;
  }
  /// Where the values above the topmost mark begin.
  std::size_t above_mark() const {
    for (std::size_t i = stack_.size(); i > 0; --i) {
      if (stack_[i - 1].kind == Kind::kMark) return i;
    }
    throw error_here("mark", "none", "one");
  }

  // --- opcodes

  /// One opcode; false after STOP.
  bool step() {
    opcode_at_ = at_;
    const auto opcode = static_cast<char>(take_byte());
    if (opcode == '.') return false;
    if (!read_scalar(opcode) && !read_container(opcode) && !read_object(opcode)) {
      throw error_here("opcode", fmt::format("0x{:02x}", static_cast<unsigned char>(opcode)),
                       "those of a dict of tensors");
    }
    return true;
  }

  bool read_scalar(char opcode) {
    switch (opcode) {
      case 'N':
        push(Kind::kNone);
        return true;
      case '\x88':
      case '\x89':
        push(Kind::kBool, opcode == '\x88' ? 1 : 0);
        return true;
      case 'J':
        push(Kind::kInt, take_number<std::int32_t>());
        return true;
      case 'K':
        push(Kind::kInt, take_byte());
        return true;
      case 'M':
        push(Kind::kInt, take_number<std::uint16_t>());
        return true;
      case '\x8a':
        push(Kind::kInt, take_long());
        return true;
      case 'X':
        read_text();
        return true;
      default:
        return false;
    }
  }

  /// LONG1: a length, then that many bytes of two's complement.
  std::int64_t take_long() {
    const unsigned n = take_byte();
    if (n > sizeof(std::int64_t)) {
      throw error_here("bytes of an integer", std::to_string(n), "0 to 8");
    }
    const std::string_view bytes = take(n);
    std::uint64_t value = n > 0 && (bytes[n - 1] & '\x80') != 0 ? ~std::uint64_t{0} : 0;
    std::memcpy(&value, bytes.data(), n);
    return static_cast<std::int64_t>(value);
  }

  void read_text() {
    const auto n = take_number<std::uint32_t>();
    if (n > PickleLimits::kTextBytes) {
      throw error_here("bytes of a string", std::to_string(n),
                       fmt::format("up to {}", PickleLimits::kTextBytes));
    }
    const std::string_view text = take(n);
    if (!is_valid_utf8(text)) throw error_here("string", quote_text(text), "UTF-8");
    push(Kind::kText, add(graph_.texts, text));
  }

  bool read_container(char opcode) {
    switch (opcode) {
      case '(':
        push(Kind::kMark);
        return true;
      case '}':
        push(Kind::kDict, add(graph_.dicts, Dict()));
        return true;
      case ']':
        push(Kind::kList);
        return true;
      case ')':
        push_tuple(stack_.size());
        return true;
      case '\x85':
      case '\x86':
      case '\x87':
        pack_tuple(static_cast<std::size_t>(opcode - '\x84'));
        return true;
      case 't':
        pack_marked_tuple();
        return true;
      case 'a':  // what is in a list has no meaning here
        pop();
        check_list();
        return true;
      case 'e':
        stack_.resize(above_mark() - 1);
        check_list();
        return true;
      case 's':
        set_items(stack_.size() < 2 ? 0 : stack_.size() - 2, 0);
        return true;
      case 'u':
        set_items(above_mark(), 1);
        return true;
      default:
        return false;
    }
  }

  void check_list() const {
    if (top().kind != Kind::kList) throw error_here("target of APPEND", kind_name(top()), "a list");
  }

  /// A tuple of the values from `begin` to the top, which it takes away.
  void push_tuple(std::size_t begin) {
    const Tuple tuple = {graph_.items.size(), stack_.size() - begin};
    graph_.items.insert(graph_.items.end(), stack_.begin() + static_cast<std::ptrdiff_t>(begin),
                        stack_.end());
    stack_.resize(begin);
    push(Kind::kTuple, add(graph_.tuples, tuple));
  }
  void pack_tuple(std::size_t n) {
    const std::size_t floor = stack_.size() < n ? stack_.size() : stack_.size() - n;
    const bool marked =
        std::any_of(stack_.begin() + static_cast<std::ptrdiff_t>(floor), stack_.end(),
                    [](const Value& value) { return value.kind == Kind::kMark; });
    if (stack_.size() < n || marked) {
      throw error_here("stack", "too few values", fmt::format("{}", n));
    }
    push_tuple(floor);
  }
  void pack_marked_tuple() {
    const std::size_t begin = above_mark();
    const Tuple tuple = {graph_.items.size(), stack_.size() - begin};
    graph_.items.insert(graph_.items.end(), stack_.begin() + static_cast<std::ptrdiff_t>(begin),
                        stack_.end());
    stack_.resize(begin - 1);
    push(Kind::kTuple, add(graph_.tuples, tuple));
  }

  /// Keys and values from `begin` to the top go into the dict below them and `n_marks` marks.
  void set_items(std::size_t begin, std::size_t n_marks) {
    const std::size_t n = stack_.size() - begin;
    const bool whole =
        n % 2 == 0 && begin > n_marks &&
        std::none_of(stack_.begin() + static_cast<std::ptrdiff_t>(begin), stack_.end(),
                     [](const Value& v) { return v.kind == Kind::kMark; });
    if (!whole) throw error_here("items of a dict", std::to_string(n), "keys with values");
    const Value& target = stack_[begin - n_marks - 1];
    if (target.kind != Kind::kDict) throw error_here("target", kind_name(target), "a dict");
    Dict& dict = graph_.dicts[index(target)];
    for (std::size_t i = begin; i < stack_.size(); i += 2) {
      dict.items.emplace_back(stack_[i], stack_[i + 1]);
    }
    stack_.resize(begin - n_marks);
  }

  bool read_object(char opcode) {
    switch (opcode) {
      case 'q':
        put(take_byte());
        return true;
      case 'r':
        put(take_number<std::uint32_t>());
        return true;
      case 'h':
        get(take_byte());
        return true;
      case 'j':
        get(take_number<std::uint32_t>());
        return true;
      case 'c':
        read_global();
        return true;
      case 'Q':
        read_storage();
        return true;
      case 'R':
        reduce();
        return true;
      case 'b':
        build();
        return true;
      default:
        return false;
    }
  }

  /// Picklers number what they remember in order; a gap would only cost memory.
  void put(std::size_t at) {
    const Value value = top();
    if (at > memo_.size() || at >= PickleLimits::kMemo) {
      throw error_here("place in the memo", std::to_string(at),
                       fmt::format("up to {}", std::min(memo_.size(), PickleLimits::kMemo - 1)));
    }
    if (at == memo_.size()) memo_.emplace_back();
    memo_[at] = value;
  }
  void get(std::size_t at) {
    if (at >= memo_.size()) {
      throw error_here("place in the memo", std::to_string(at),
                       fmt::format("below {}", memo_.size()));
    }
    push(memo_[at].kind, memo_[at].number);
  }

  void read_global() {
    const std::string_view module = take_line();
    const std::string_view name = take_line();
    for (std::size_t i = 0; i < kGlobals.size(); ++i) {
      if (kGlobals[i].module != module || kGlobals[i].name != name) continue;
      push(Kind::kGlobal, static_cast<std::int64_t>(i));
      return;
    }
    throw error_here("GLOBAL",
                     quote_text(fmt::format("{}.{}", module, name), 128) +
                         " (never run: a pickle can hold code)",
                     kAllowedGlobals);
  }

  /// The values of a tuple, which must be of these kinds.
  const Value* arguments(const Value& tuple,
                         std::initializer_list<Kind> kinds,
                         std::string_view what) const {
    const Tuple& t = graph_.tuples[index(tuple)];
    const Value* const values = graph_.items.data() + t.begin;
    bool match = t.size == kinds.size();
    for (std::size_t i = 0; match && i < t.size; ++i) match = values[i].kind == kinds.begin()[i];
    if (match) return values;
    std::string got, allowed;
    for (std::size_t i = 0; i < t.size && i < 8; ++i) {
      got.append(i == 0 ? "" : ", ").append(kind_name(values[i]));
    }
    for (const Kind kind : kinds) {
      allowed.append(allowed.empty() ? "" : ", ").append(kind_name(kind));
    }
    throw error_here(what, fmt::format("({})", got), fmt::format("({})", allowed));
  }

  /// BINPERSID: ("storage", its type, its key, the device it was on, its elements).
  void read_storage() {
    const Value* const v = arguments(
        pop(Kind::kTuple, "persistent id"),
        {Kind::kText, Kind::kGlobal, Kind::kText, Kind::kText, Kind::kInt}, "persistent id");
    const Global& type = kGlobals[index(v[1])];
    if (graph_.texts[index(v[0])] != "storage" || type.use != Use::kStorage) {
      throw error_here("persistent id", quote_text(graph_.texts[index(v[0])]),
                       "'storage' with its type");
    }
    if (v[4].number < 0) {
      throw error_here("elements of a storage", std::to_string(v[4].number), "0 or more");
    }
    const Storage storage = {graph_.texts[index(v[2])], &type,
                             static_cast<std::uint64_t>(v[4].number)};
    push(Kind::kStorage, add(graph_.storages, storage));
  }

  void reduce() {
    const Value tuple = pop(Kind::kTuple, "arguments of REDUCE");
    const Global& global = kGlobals[index(pop(Kind::kGlobal, "REDUCE"))];
    switch (global.use) {
      case Use::kOrderedDict:
        arguments(tuple, {}, "arguments of OrderedDict");
        push(Kind::kDict, add(graph_.dicts, Dict{true, {}}));
        return;
      case Use::kTensor: {
        const Value* const v = arguments(
            tuple,
            {Kind::kStorage, Kind::kInt, Kind::kTuple, Kind::kTuple, Kind::kBool, Kind::kDict},
            "arguments of _rebuild_tensor_v2");
        const Tensor tensor = {index(v[0]), v[1].number, graph_.tuples[index(v[2])],
                               graph_.tuples[index(v[3])]};
        push(Kind::kTensor, add(graph_.tensors, tensor));
        return;
      }
      case Use::kParameter: {
        const Value tensor = *arguments(tuple, {Kind::kTensor, Kind::kBool, Kind::kDict},
                                        "arguments of _rebuild_parameter");
        push(tensor.kind, tensor.number);
        return;
      }
      case Use::kStorage:
        throw error_here("REDUCE", quote_text(global.name), "a dict or a tensor");
    }
  }

  /// A module's state_dict carries the versions of its parts as _metadata, which nobody needs.
  void build() {
    const Dict& state = graph_.dicts[index(pop(Kind::kDict, "state of BUILD"))];
    const Value& target = top();
    if (target.kind != Kind::kDict || !graph_.dicts[index(target)].ordered) {
      throw error_here("target of BUILD", kind_name(target), "an OrderedDict");
    }
    for (const auto& [key, value] : state.items) {
      if (key.kind == Kind::kText && graph_.texts[index(key)] == "_metadata") continue;
      throw error_here(
          "state of BUILD",
          key.kind == Kind::kText ? quote_text(graph_.texts[index(key)]) : kind_name(key),
          "'_metadata'");
    }
  }

  std::string_view pickle_;
  const std::string& source_;
  std::size_t at_ = 0, opcode_at_ = 0;
  std::uint64_t n_values_ = 0, n_objects_ = 0;
  std::vector<Value> stack_, memo_;
  Graph graph_;
};

}  // namespace

std::string_view kind_name(Kind kind) {
  constexpr std::array<std::string_view, 11> kNames = {
      "a mark", "None",   "a bool",   "an integer", "a string", "a tuple",
      "a list", "a dict", "a global", "a storage",  "a tensor"};
  return kNames[static_cast<std::size_t>(kind)];
}

Error pickle_error(std::string_view source, std::string_view text) {
  return bad_input(fmt::format("{}: pickle: {}", source, text));
}

Graph run_pickle(std::span<const std::byte> pickle, const std::string& source) {
  return Machine(pickle, source).run();
}

}  // namespace heddle::pickle
