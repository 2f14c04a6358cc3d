// PyTorch's .bin files: what torch.save's forms give, what each broken or hostile one is told.

#include "models/pickle_tensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/error.h"
#include "models/bin_weights.h"
#include "tests/support/bin_writer.h"

namespace heddle {
namespace {

using test::BinDoc;
using test::PickleText;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<BinTensor> parse(const std::string& file) {
  return read_bin(std::as_bytes(std::span(file)), "x");
}

/// a: [2, 3] F32; b: [4] BF16; c: [2] I64; d: tied to a; e: the last two rows of b as [2, 1].
BinDoc good() {
  BinDoc doc;
  doc.add("a", "FloatStorage", {2, 3}, std::string(24, 'a'));
  doc.add("b", "BFloat16Storage", {4}, "0011223\x80");
  doc.add("c", "LongStorage", {2}, std::string(16, 'c'));
  doc.tensors.push_back({"d", "FloatStorage", "0", 6, 0, {2, 3}, {3, 1}});
  doc.tensors.push_back({"e", "BFloat16Storage", "1", 4, 2, {2, 1}, {1, 1}});
  return doc;
}

std::string message(const std::string& file) {
  try {
    parse(file);
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_THAT(text, StartsWith("x: "));
    EXPECT_THAT(text, HasSubstr(", allowed "));
    EXPECT_EQ(text.find('\n'), std::string::npos);
    return text.substr(3);
  }
  return "accepted";
}

std::string refusal_of(const std::function<void(BinDoc&)>& change) {
  BinDoc doc = good();
  change(doc);
  return message(doc.serialise());
}

/// What a file is told whose pickle is this.
std::string refusal_of(const PickleText& pickle) {
  return refusal_of([&](BinDoc& d) { d.pickle = pickle.bytes; });
}

PickleText pickle() {
  PickleText text;
  text.memo = PickleText::Memo::kNone;
  return text;
}

TEST(PickleTensors, GiveNamesTypesShapesAndPlaces) {
  const std::string file = good().serialise();
  const std::vector<BinTensor> tensors = parse(file);
  ASSERT_EQ(tensors.size(), 5U);
  const BinTensor &a = tensors[0], &b = tensors[1], &c = tensors[2], &d = tensors[3],
                  &e = tensors[4];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, DType::kF32);
  EXPECT_THAT(a.dims, ElementsAre(2, 3));
  EXPECT_EQ(file.substr(a.offset, a.bytes), std::string(24, 'a'));
  EXPECT_EQ(b.dtype, DType::kBF16);
  EXPECT_EQ(file.substr(b.offset, b.bytes), "0011223\x80");
  EXPECT_EQ(c.dtype, std::nullopt);
  EXPECT_EQ(c.dtype_name, "I64");
  EXPECT_EQ(d.offset, a.offset);
  EXPECT_EQ(d.bytes, a.bytes);
  EXPECT_THAT(e.dims, ElementsAre(2, 1));
  EXPECT_EQ(file.substr(e.offset, e.bytes), "223\x80");
}

TEST(PickleTensors, ReadEveryFormThatTorchWrites) {
  for (const bool ordered : {false, true}) {
    for (const bool one_by_one : {false, true}) {
      for (const auto memo :
           {PickleText::Memo::kNone, PickleText::Memo::kShort, PickleText::Memo::kLong}) {
        BinDoc doc = good();
        doc.ordered = doc.metadata = ordered;
        doc.one_by_one = one_by_one;
        doc.memo = memo;
        for (test::BinPart& part : doc.tensors) part.parameter = one_by_one;
        EXPECT_EQ(parse(doc.serialise()).size(), 5U);
      }
    }
  }
  BinDoc doc;
  doc.add("scalar", "HalfStorage", {}, "xx");
  doc.add("cube", "CharStorage", {1, 2, 3, 1, 2}, std::string(12, 'x'));
  doc.tensor("cube").strides[0] = 77;  // of one row: never used
  doc.add("wide", "BoolStorage", {70'000}, std::string(70'000, '\1'));
  const std::vector<BinTensor> tensors = parse(doc.serialise());
  EXPECT_TRUE(tensors[0].dims.empty());
  EXPECT_EQ(tensors[1].dtype_name, "I8");
  EXPECT_EQ(tensors[2].bytes, 70'000U);
}

TEST(PickleTensors, ForgetWhatMetadataHolds) {
  PickleText list = pickle();
  list.ordered_dict().op("}").text("_metadata").op("]Na(").integer(1).integer(-1).integer(300);
  list.integer(1LL << 40).text("x").op(
      "\x88\x89N)}](Nt\x85\x86\x87"
      "esb.");
  EXPECT_EQ(refusal_of(list), "accepted");
  EXPECT_THAT(refusal_of(pickle().op("}Na.")), HasSubstr("target of APPEND at byte 4, got a dict"));
}

TEST(PickleTensors, TakeNothingButADict) {
  PickleText text = pickle();
  text.op("}q").op(std::string_view("\0(uh\0", 5)).op("\x86.");
  EXPECT_EQ(refusal_of(text), "pickle: result, got a tuple, allowed a dict of tensors");
  EXPECT_EQ(refusal_of(pickle().op("].")), "pickle: result, got a list, allowed a dict of tensors");
  EXPECT_EQ(refusal_of(pickle().op("}.")), "accepted");
}

TEST(PickleTensors, RefuseEveryCutOfAFile) {
  BinDoc doc = good();
  const std::string file = doc.serialise();
  for (std::size_t part = 0; part < 64; ++part) {
    EXPECT_NE(message(file.substr(0, file.size() * part / 64)), "accepted");
  }
  const std::string pickle = doc.pickle_text();
  for (std::size_t n = 0; n < pickle.size(); ++n) {
    doc.pickle = pickle.substr(0, n);
    EXPECT_THAT(message(doc.serialise()), StartsWith("pickle: ")) << n;
  }
  doc.pickle = pickle + "N";
  EXPECT_EQ(message(doc.serialise()), "pickle: bytes behind its end, got 1, allowed 0");
}

TEST(PickleTensors, NeverRunAGlobal) {
  const std::string told =
      " (never run: a pickle can hold code), allowed collections.OrderedDict, "
      "torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter, torch.BFloat16Storage, "
      "HalfStorage, FloatStorage and those of integers";
  EXPECT_EQ(refusal_of(pickle().global("os", "system").op("(").text("true").op("tR.")),
            "pickle: GLOBAL at byte 2, got 'os.system'" + told);
  for (const auto& [module, name] :
       std::vector<std::pair<std::string, std::string>>{{"builtins", "eval"},
                                                        {"torch", "load"},
                                                        {"torch.FloatStorage", "__reduce__"},
                                                        {"torch", "FloatStorage.from_file"},
                                                        {"collections", "OrderedDict.fromkeys"},
                                                        {"torch._utils", "_rebuild_tensor_v3"},
                                                        {"", "FloatStorage"},
                                                        {"torch", "FloatStorage "}}) {
    EXPECT_EQ(refusal_of(pickle().global(module, name).op(".")),
              fmt::format("pickle: GLOBAL at byte 2, got '{}.{}'", module, name) + told);
  }
  EXPECT_EQ(refusal_of(pickle().op("cos\nsystem")),
            "pickle: GLOBAL at byte 2, got a name without an end" + told.substr(36));
  EXPECT_THAT(refusal_of([](BinDoc& d) { d.tensor("a").type = "Float8Storage"; }),
              HasSubstr("got 'torch.Float8Storage' (never run"));
  // STACK_GLOBAL, INST, OBJ, NEWOBJ, EXT1, NEXT_BUFFER, POP, DUP, FRAME, PERSID.
  for (const char* opcode : {"\x93", "i", "o", "\x81", "\x82", "\x97", "0", "2", "\x95", "P"}) {
    EXPECT_THAT(refusal_of(pickle().op("}").op(opcode).op("x\ny\n.")),
                HasSubstr(fmt::format("opcode at byte 3, got 0x{:02x}, allowed those of a dict of "
                                      "tensors",
                                      static_cast<unsigned char>(opcode[0]))));
  }
}

TEST(PickleTensors, RefuseOtherProtocols) {
  for (const char protocol : {'\0', '\1', '\3', '\4', '\5', '\x7f'}) {
    EXPECT_EQ(refusal_of([&](BinDoc& d) { d.pickle = std::string("\x80") + protocol + "}."; }),
              fmt::format("pickle: protocol, got {}, allowed 2", static_cast<int>(protocol)));
  }
  EXPECT_EQ(refusal_of([](BinDoc& d) { d.pickle = "(dp0\n."; }),
            "pickle: protocol, got none, allowed 2");
}

TEST(PickleTensors, RefuseCallsOfAnotherForm) {
  EXPECT_EQ(refusal_of(pickle().op("NN\x86R.")),
            "pickle: stack at byte 5, got nothing on it, allowed a value");
  EXPECT_THAT(refusal_of(pickle().op("N)R.")), HasSubstr("REDUCE at byte 4, got None, allowed"));
  EXPECT_THAT(refusal_of(pickle().global("torch", "FloatStorage").op(")R.")),
              HasSubstr("got 'FloatStorage', allowed a dict or a tensor"));
  EXPECT_THAT(refusal_of(pickle().global("collections", "OrderedDict").op("N\x85R.")),
              HasSubstr("arguments of OrderedDict at byte 29, got (None), allowed ()"));
  EXPECT_THAT(
      refusal_of(pickle().global("torch._utils", "_rebuild_tensor_v2").op(")R.")),
      HasSubstr("arguments of _rebuild_tensor_v2 at byte 36, got (), allowed (a storage, "));
  EXPECT_THAT(refusal_of(pickle().global("torch._utils", "_rebuild_parameter").op("}NN\x87R.")),
              HasSubstr("got (a dict, None, None), allowed (a tensor, a bool, a dict)"));
  EXPECT_THAT(refusal_of(pickle().op("NQ.")), HasSubstr("persistent id at byte 3, got None"));
  EXPECT_THAT(refusal_of(pickle().op("NK").op("\1\x86Q.")),
              HasSubstr("persistent id at byte 6, got (None, an integer), allowed (a string"));
  PickleText module = pickle();
  module.op("(").text("module").global("torch", "FloatStorage").text("0").text("cpu").integer(6);
  EXPECT_THAT(refusal_of(module.op("tQ.")), HasSubstr("got 'module', allowed 'storage'"));
  EXPECT_THAT(refusal_of([](BinDoc& d) { d.ordered = false, d.metadata = true; }),
              HasSubstr("target of BUILD at byte "));
  PickleText state = pickle();
  state.ordered_dict().op("}").text("__class__").op("Nsb.");
  EXPECT_THAT(refusal_of(state), HasSubstr("got '__class__', allowed '_metadata'"));
}

TEST(PickleTensors, RefuseStacksAndMemosThatDoNotHold) {
  EXPECT_THAT(refusal_of(pickle().op("h").op("\7.")),
              StartsWith("pickle: place in the memo at byte 2, got 7, allowed below 0"));
  EXPECT_THAT(refusal_of(pickle().op("}j\xff\xff\xff\xff.")), HasSubstr("got 4294967295, allowed"));
  EXPECT_THAT(refusal_of(pickle().op("}r\xff\xff\xff\xff.")),
              HasSubstr("place in the memo at byte 3, got 4294967295, allowed up to 0"));
  EXPECT_THAT(refusal_of(pickle().op("(q").op(std::string_view("\0.", 2))),
              HasSubstr("stack at byte 3, got nothing on it"));
  for (const char* text : {"t.", "u.", "e.", "s.", "a.", "\x85.", "\x87.", "b.", "R.", "Q.", ".",
                           "(\x85.", "}NNN\x87u.", "}(Nu.", "(NNs.", "N(NNu.", "NNa.", "(."}) {
    EXPECT_THAT(refusal_of(pickle().op(text)), StartsWith("pickle: ")) << text;
  }
  EXPECT_EQ(refusal_of(pickle().op("}N.")), "pickle: result, got several values, allowed one");
  EXPECT_EQ(refusal_of(pickle().op("N.")), "pickle: result, got None, allowed a dict of tensors");
}

TEST(PickleTensors, RefuseCountsBeyondTheLimits) {
  EXPECT_THAT(refusal_of(pickle().op("X\xff\xff\xff\xff.")),
              HasSubstr("bytes of a string at byte 2, got 4294967295, allowed up to 1024"));
  EXPECT_THAT(refusal_of(pickle().op("\x8a\xff.")), HasSubstr("got 255, allowed 0 to 8"));
  EXPECT_THAT(refusal_of(pickle().op(std::string(20'000, '('))),
              HasSubstr("stack at byte 16386, got more values, allowed up to 16384"));
  EXPECT_THAT(refusal_of([](BinDoc& d) {
                d.pickle = "\x80\x02";
                for (int i = 0; i < 300; ++i) *d.pickle += "(" + std::string(10'000, ')') + "t";
              }),
              HasSubstr("objects at byte "));
  EXPECT_THAT(refusal_of([](BinDoc& d) {
                d.pickle = "\x80\x02";
                for (int i = 0; i < 900; ++i) *d.pickle += "(" + std::string(10'000, 'N') + "t";
              }),
              HasSubstr("values at byte "));
  PickleText many = pickle();
  many.op("}");
  for (int i = 0; i < 140'000; ++i) many.op("NNs");
  EXPECT_EQ(refusal_of(many.op(".")), "pickle: tensors, got 140000, allowed up to 131072");
  EXPECT_THAT(refusal_of(pickle().text("a\xff").op(".")), HasSubstr("got 'a\\xff', allowed UTF-8"));
}

TEST(PickleTensors, RefuseWhatIsNoDictOfTensors) {
  EXPECT_EQ(refusal_of(pickle().op("}").text("epoch").integer(3).op("s.")),
            "pickle: value of 'epoch', got an integer, allowed a tensor");
  EXPECT_EQ(refusal_of(pickle()
                           .op("}q")
                           .op(std::string_view("\0", 1))
                           .text("self")
                           .op("h")
                           .op(std::string_view("\0s.", 3))),
            "pickle: value of 'self', got a dict, allowed a tensor");
  EXPECT_EQ(refusal_of(pickle().op("}NNs.")),
            "pickle: name of a tensor, got None, allowed a string of 1 to 1024 bytes");
  EXPECT_EQ(refusal_of([](BinDoc& d) { d.tensor("b").name = ""; }),
            "pickle: name of a tensor, got '', allowed a string of 1 to 1024 bytes");
  EXPECT_EQ(refusal_of([](BinDoc& d) { d.tensor("b").name = "a"; }),
            "pickle: tensor 'a', got it twice, allowed once");
}

TEST(PickleTensors, RefuseShapesAndStridesThatAreNotDense) {
  const auto of = [](std::vector<std::int64_t> shape, std::vector<std::int64_t> strides) {
    return refusal_of([&](BinDoc& d) {
      d.tensor("a").shape = std::move(shape);
      d.tensor("a").strides = std::move(strides);
    });
  };
  EXPECT_EQ(of({2, 3}, {1, 2}), "pickle: stride 1 of 'a', got 2, allowed 1 (dense rows)");
  EXPECT_EQ(of({2, 3}, {0, 1}), "pickle: stride 0 of 'a', got 0, allowed 3 (dense rows)");
  EXPECT_EQ(of({2, 3}, {-3, 1}), "pickle: stride 0 of 'a', got -3, allowed 3 (dense rows)");
  EXPECT_EQ(of({1, 6}, {-1, 1}), "pickle: stride 0 of 'a', got -1, allowed 6 (dense rows)");
  EXPECT_EQ(of({2, 0}, {1, 1}), "pickle: dimension 1 of 'a', got 0, allowed integers from 1");
  EXPECT_EQ(of({-2, -3}, {3, 1}), "pickle: dimension 1 of 'a', got -3, allowed integers from 1");
  EXPECT_EQ(of({6}, {}), "pickle: rank of 'a', got 1 with 0 strides, allowed 0 to 8 with as many");
  EXPECT_THAT(of(std::vector<std::int64_t>(9, 1), std::vector<std::int64_t>(9, 1)),
              StartsWith("pickle: rank of 'a', got 9 with 9 strides"));
  EXPECT_EQ(of({1 << 30, 1 << 30, 1 << 30}, {1LL << 60, 1 << 30, 1}),
            "pickle: elements of 'a', got more than 2^64, allowed up to the storage's 6");
  EXPECT_EQ(of({7}, {1}), "pickle: elements of 'a', got 7, allowed up to the storage's 6");
}

TEST(PickleTensors, RefusePlacesOutsideTheStorage) {
  const auto of = [](std::int64_t offset) {
    return refusal_of([&](BinDoc& d) { d.tensor("e").offset = offset; });
  };
  EXPECT_EQ(of(-1), "pickle: storage offset of 'e', got -1, allowed 0 to 2");
  EXPECT_EQ(of(3), "pickle: storage offset of 'e', got 3, allowed 0 to 2");
  EXPECT_EQ(of(INT64_MAX),
            "pickle: storage offset of 'e', got 9223372036854775807, allowed 0 to 2");
  const auto elements = [](std::int64_t n) {
    return refusal_of([&](BinDoc& d) { d.tensor("a").storage_elements = n; });
  };
  EXPECT_EQ(elements(7),
            "pickle: bytes of 'archive/data/0', got 24, allowed 28 (the storage of 'a')");
  EXPECT_THAT(elements(-6), HasSubstr("elements of a storage at byte "));
  EXPECT_EQ(elements(INT64_MAX),
            "pickle: elements of 'a', got 6, allowed up to the storage's 9223372036854775807");
  EXPECT_EQ(refusal_of([](BinDoc& d) { d.storages[0].second += "x"; }),
            "pickle: bytes of 'archive/data/0', got 25, allowed 24 (the storage of 'a')");
  EXPECT_EQ(refusal_of([](BinDoc& d) { d.tensor("a").key = "9"; }),
            "pickle: storage of 'a', got no entry 'archive/data/9', allowed one");
  EXPECT_EQ(refusal_of([](BinDoc& d) { d.tensor("a").key = "../version"; }),
            "pickle: storage of 'a', got no entry 'archive/data/../version', allowed one");
}

TEST(PickleTensors, RefuseArchivesOfOtherThings) {
  const auto of = [](const std::function<void(test::ZipDoc&)>& change) {
    test::ZipDoc zip = good().zip();
    change(zip);
    return message(zip.serialise());
  };
  EXPECT_EQ(of([](test::ZipDoc& z) { z.part("/data.pkl").name = "archive/x.pkl"; }),
            "zip_archive: entries, got no NAME/data.pkl among 6, allowed those that torch.save "
            "writes");
  EXPECT_EQ(of([](test::ZipDoc& z) { z.part("/version").name = "other/data.pkl"; }),
            "zip_archive: pickle, got 'archive/data.pkl' and 'other/data.pkl', allowed one");
  EXPECT_EQ(of([](test::ZipDoc& z) { z.part("/byteorder").data = "big"; }),
            "zip_archive: archive/byteorder, got 'big', allowed 'little'");
  EXPECT_EQ(of([](test::ZipDoc& z) { z.part("/data/0").method = 8; }),
            "zip_archive: method of 'archive/data/0', got 8, allowed 0 (stored)");
}

}  // namespace
}  // namespace heddle
