"""The files of a new mixer, before anything is filled in: what tools/new_mixer.py writes.

@NAME@ is the mixer (snake_case), @TYPE@ its type (PascalCase). Everything compiles; whatever would give a result
throws an error that names the mixer and the file instead.
"""

MIXER_H = '''#pragma once
#include <string>

#include "models/cache_need.h"
#include "models/checkpoint.h"
#include "models/layer_step.h"
#include "models/weight_binder.h"

namespace heddle {

/// FILL IN: what it does with one layer's rows; @TYPE@Spec has the formula.
class @TYPE@ {
 public:
  /// `rope_table`: index into LayerStep::rope_tables, or -1 without rotation.
  static @TYPE@ bind(const @TYPE@Spec& spec,
                     const @TYPE@Names& names,
                     int hidden,
                     int rope_table,
                     WeightBinder& binder);
  static CacheNeed cache_need(const @TYPE@Spec& spec);
  static std::size_t workspace_bytes(const @TYPE@Spec& spec, const StepSize& size);
  static std::string describe(const @TYPE@Spec& spec);
  void forward(LayerStep& step) const;

  // FILL IN: the spec, rope_table, a PackedMatrix or DeviceVector for each tensor
};

}  // namespace heddle
'''

MIXER_CPP = '''#include "models/mixers/@NAME@.h"

#include <fmt/format.h>

#include "base/error.h"

namespace heddle {
namespace {

// A skeleton gives no result, not even a size: until a part is written, it says so.
[[noreturn]] void unwritten(const char* part) {
  throw runtime_failure(
      fmt::format("mixer '@NAME@': {} is not written yet (models/mixers/@NAME@.cpp)", part));
}

}  // namespace

@TYPE@ @TYPE@::bind(const @TYPE@Spec& /*spec*/,
                    const @TYPE@Names& /*names*/,
                    int /*hidden*/,
                    int /*rope_table*/,
                    WeightBinder& /*binder*/) {
  // FILL IN: binder.matrix() and vector() of every name; a name that is not bound fails the load
  unwritten("bind");
}

CacheNeed @TYPE@::cache_need(const @TYPE@Spec& /*spec*/) {
  // FILL IN: paged, compressed or recurrent memory; a new kind of memory is a change of engine/
  unwritten("cache_need");
}

std::size_t @TYPE@::workspace_bytes(const @TYPE@Spec& /*spec*/, const StepSize& /*size*/) {
  // FILL IN: the sum of all that forward() takes from step.workspace; more is a failed check
  unwritten("workspace_bytes");
}

std::string @TYPE@::describe(const @TYPE@Spec& spec) {
  // FILL IN: what `heddle inspect` says of a layer
  return fmt::format("@NAME@ (not written yet), {} heads of {}", spec.n_heads, spec.head_dim);
}

void @TYPE@::forward(LayerStep& /*step*/) const {
  // FILL IN: projections of step.normed in one matmul; norm, activation and rotation in the order
  // that the spec states; the op; then step.out = step.residual + W_o result, with .segments =
  // row_parallel_segments(o_.n_cols, o_.dtype) as the other mixers do
  unwritten("forward");
}

}  // namespace heddle
'''

API_H = '''#pragma once
#include "base/tensor_view.h"

namespace heddle {

/// FILL IN: the formula; the order of every sum, cut at absolute positions, so that a row's bits
/// depend neither on chunk, batch, threads nor slot; what is read of memory that nobody has
/// written; the source (paper, equation).
struct @TYPE@Args {
  TensorView x;          // [n_tokens, n_heads, head_dim]  F32   FILL IN: the operands
  TensorView sequence;   // [n_tokens] I32
  TensorView positions;  // [n_tokens] I32
  TensorView out;        // like x; FILL IN: what it may alias
};

}  // namespace heddle
'''

CPU_CPP = '''#include "base/error.h"
#include "kernels/cpu/cpu_tables.h"

namespace heddle::cpu {
namespace {

void check(const @TYPE@Args& args) {
  HEDDLE_CHECK(args.x.rank == 3 && args.x.dtype == DType::kF32);
  HEDDLE_CHECK(args.sequence.rank == 1 && args.sequence.dtype == DType::kI32);
  HEDDLE_CHECK(args.positions.rank == 1 && args.positions.dtype == DType::kI32);
  HEDDLE_CHECK(args.sequence.dim(0) == args.x.dim(0) && args.positions.dim(0) == args.x.dim(0));
  HEDDLE_CHECK(args.out.rank == 3 && args.out.dtype == DType::kF32);
  HEDDLE_CHECK(args.out.dims == args.x.dims);
}

void ref(const @TYPE@Args& args, CpuContext& /*context*/) {
  check(args);
  // FILL IN: naive loops from the formula, f64 accumulators; fast variants come later, before it
  throw runtime_failure("op '@NAME@': ref is not written yet (kernels/cpu/@NAME@.cpp)");
}

bool always(const @TYPE@Args& /*args*/, const DeviceCaps& /*caps*/) {
  return true;
}

constexpr Variant<@TYPE@Args, CpuContext> kVariants[] = {{"ref", always, ref}};

}  // namespace

const Table<@TYPE@Args>& @NAME@_table() {
  static constexpr Table<@TYPE@Args> kTable = {"@NAME@", kVariants};
  return kTable;
}

}  // namespace heddle::cpu
'''

KERNEL_TEST = '''// @NAME@ on the CPU.
// FILL IN, in this order: cases computed by hand; every variant against ref within a bound that the
// data gives; fast variants bit-equal; bits that depend neither on chunk, batch, threads nor slot;
// empty, 1, block - 1, block, block + 1; NaN and infinities where ref has them; refused arguments.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/cpu_tables.h"
#include "tests/support/cpu_variants.h"

namespace heddle {
namespace {

std::string refusal(std::int64_t n_out) {
  const std::vector<float> x(8, 1.0F);
  std::vector<float> out(8);
  const std::vector<std::int32_t> rows = {0, 0};
  @TYPE@Args args;
  args.x = TensorView(x.data(), DType::kF32, {2, 2, 2});
  args.sequence = TensorView(rows.data(), DType::kI32, {2});
  args.positions = TensorView(rows.data(), DType::kI32, {2});
  args.out = TensorView(out.data(), DType::kF32, {n_out, 2, 2});
  try {
    test::run_variant(cpu::@NAME@_table(), "ref", args);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(@TYPE@Op, ChecksItsArguments) {
  EXPECT_NE(refusal(1).find("args.out.dims"), std::string::npos) << refusal(1);
}

// Goes when ref is there.
TEST(@TYPE@Op, SaysThatItIsNotWritten) {
  EXPECT_EQ(refusal(2), "op '@NAME@': ref is not written yet (kernels/cpu/@NAME@.cpp)");
}

}  // namespace
}  // namespace heddle
'''

MODEL_TEST = '''// The mixer @NAME@: how the native format states it, and what it refuses.
// FILL IN: every key with its range and exact message, every tensor with its shape. What it computes
// is proved by tests/engine/golden_test.cpp once tools/tiny_native.py has a layer of it.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "models/decoder.h"
#include "models/planned.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

Checkpoint read(const Json& mixer) {
  const Json layer = {{"mixers", Json::array({mixer})},
                      {"ffn", {{"kind", "dense"}, {"intermediate", 64}}}};
  const Json config = {{"model_type", "heddle"}, {"format", 1},     {"vocab_size", 32},
                       {"hidden_size", 64},      {"context", 4096}, {"layers", Json::array({layer})}};
  const test::TempFolder folder;
  folder.write("config.json", config.dump());
  return planned_checkpoint(folder.path() + "/config.json");
}

Json small() {
  return {{"kind", "@NAME@"}, {"heads", 4}, {"head_dim", 16}};
}

TEST(@TYPE@Mixer, IsReadFromTheNativeFormat) {
  const Checkpoint checkpoint = read(small());
  const auto& spec = std::get<@TYPE@Spec>(checkpoint.config.layers.at(0).mixers.at(0));
  EXPECT_EQ(spec.n_heads, 4);
  EXPECT_EQ(spec.head_dim, 16);
  EXPECT_FLOAT_EQ(spec.scale, 0.25F);
  EXPECT_EQ(shape_text(checkpoint.weights->find("layers.0.mixers.0.o.weight")), "[64, 64] BF16");
}

TEST(@TYPE@Mixer, RefusesKeysThatItDoesNotKnow) {
  Json mixer = small();
  mixer["window"] = 8;
  EXPECT_THROW(read(mixer), Error);
}

// Goes when the mixer is there.
TEST(@TYPE@Mixer, SaysThatItIsNotWritten) {
  try {
    cache_needs(read(small()).config);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "mixer '@NAME@': cache_need is not written yet "
                               "(models/mixers/@NAME@.cpp)");
  }
}

}  // namespace
}  // namespace heddle
'''

FILES = {
    "models/mixers/@NAME@.h": MIXER_H,
    "models/mixers/@NAME@.cpp": MIXER_CPP,
    "kernels/api/@NAME@.h": API_H,
    "kernels/cpu/@NAME@.cpp": CPU_CPP,
    "tests/kernels/@NAME@_test.cpp": KERNEL_TEST,
    "tests/models/@NAME@_test.cpp": MODEL_TEST,
}

SPEC = '''/// FILL IN: the formula from q, k, v = W x to the result, and the order of norm, activation,
/// rotation and gate; see kernels/api/@NAME@.h.
struct @TYPE@Spec {
  int n_heads = 0;
  int head_dim = 0;
  float scale = 0.0F;
  RopeSpec rope;  // every mixer has one; rotary_dim 0: no rotation
};

'''

NAMES = '''struct @TYPE@Names {
  TensorPart q, k, v, o;  // FILL IN: the others
};
'''

HASH = '''  void add(const @TYPE@Spec& spec) {
    const auto& [n_heads, head_dim, scale, rope] = spec;
    // FILL IN: also the block in which its op sums, if it has one
    all(n_heads, head_dim, scale, rope);
  }

'''

READER = '''MixerAndNames read_@NAME@(const StrictObject& config, const NativeLayer& layer) {
  @TYPE@Spec spec;
  spec.n_heads = config.require_integer("heads", {1, ModelLimits::kHeads});
  spec.head_dim = read_head_dim(config);
  spec.scale = read_scale(config, spec.head_dim);
  spec.rope = read_rope(config, spec.head_dim, layer.context);
  // FILL IN: the other keys, each with its range
  config.done();
  const std::int64_t width = std::int64_t{spec.n_heads} * spec.head_dim;
  @TYPE@Names names;
  names.q = layer.matrix("q", width, layer.hidden);
  names.k = layer.matrix("k", width, layer.hidden);
  names.v = layer.matrix("v", width, layer.hidden);
  names.o = layer.matrix("o", layer.hidden, width);
  return {std::move(spec), std::move(names)};
}

'''

# What a program cannot do; printed at the end: (where, what).
REST = [
    ("kernels/api/@NAME@.h, kernels/cpu/@NAME@.cpp", "formula and ref, with tests/kernels/@NAME@_test.cpp"),
    ("models/layer_spec.h, models/checkpoint.h", "the spec's fields and the tensors' names"),
    ("models/spec_hash.cpp", "every field of the spec: it does not compile with one forgotten"),
    ("models/families/native_mixers.cpp", "keys and shapes; docs/native_format.md lists them"),
    ("models/mixers/@NAME@.cpp", "bind, cache_need, workspace_bytes, describe, forward"),
    ("models/mixers/mixer.cpp", "what '@LETTER@' stands for in the layer map"),
    ("tests/support/native_oracle.py", "the same from the formula, token by token, in f64"),
    ("tools/tiny_native.py, tools/export_golden.py", "a layer of it in the tiny model; export its golden again"),
    ("models/families/", "the checkpoints that have it: docs/adding_a_model.md"),
    ("docs/numerics.md, docs/kernels.md, CHANGELOG.md", "the order of sums; fast variants; a line for users"),
]
