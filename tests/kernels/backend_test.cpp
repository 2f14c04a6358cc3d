// The CPU backend: options, memory, packing, the dispatch through the variant tables.

#include "kernels/backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <optional>
#include <set>
#include <string>

#include "base/error.h"
#include "base/thread_pool.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "tests/support/weights.h"

namespace heddle {
namespace {

using test::Random;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

// Sets HEDDLE_CPU_ISA for a scope.
class IsaLimit {
 public:
  explicit IsaLimit(const char* value) {
    if (const char* const old = std::getenv("HEDDLE_CPU_ISA")) old_ = old;
    ::setenv("HEDDLE_CPU_ISA", value, 1);
  }
  ~IsaLimit() {
    if (old_) {
      ::setenv("HEDDLE_CPU_ISA", old_->c_str(), 1);
    } else {
      ::unsetenv("HEDDLE_CPU_ISA");
    }
  }

 private:
  std::optional<std::string> old_;
};

std::unique_ptr<Backend> cpu(int threads = 2, ForcedVariants forced = {}) {
  BackendOptions options;
  options.threads = threads;
  options.forced = std::move(forced);
  return make_backend(options);
}

template <typename F>
void expect_error(ErrorKind kind, const testing::Matcher<const char*>& text, const F& f) {
  try {
    f();
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), kind);
    EXPECT_THAT(e.what(), text);
  }
}

TEST(CpuBackend, ThreadsAreAsAskedAndZeroMeansTheAvailableCores) {
  EXPECT_EQ(cpu(3)->threads(), 3);
  EXPECT_EQ(cpu(0)->threads(), available_cores());
  for (const int threads : {-1, 1025}) {
    expect_error(ErrorKind::kBadInput, HasSubstr("allowed: 0"), [&] { cpu(threads); });
  }
}

TEST(CpuBackend, DescribesItself) {
  EXPECT_EQ(cpu(1)->kind(), DeviceKind::kCpu);
  EXPECT_THAT(cpu(1)->describe(), HasSubstr("CPU, 1 thread, "));
  EXPECT_THAT(cpu(2)->describe(),
              AllOf(HasSubstr("2 threads"), HasSubstr(detect_cpu().describe())));
}

TEST(CpuBackend, MemoryIsZeroedAndAligned) {
  const auto backend = cpu();
  for (const std::size_t bytes : {0U, 1U, 255U, 256U, 257U, 4U << 20}) {
    for (const Buffer& b : {backend->allocate(bytes), backend->allocate_host(bytes)}) {
      EXPECT_EQ(b.bytes(), bytes);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.data()) % 256, 0U);
      for (std::size_t i = 0; i < bytes; ++i) ASSERT_EQ(b.data()[i], std::byte{0});
    }
  }
  expect_error(ErrorKind::kMemory, HasSubstr("cannot allocate"),
               [&] { backend->allocate(std::size_t{1} << 60); });
}

TEST(CpuBackend, CopiesAndZeroesAtOnce) {
  const auto backend = cpu();
  const std::vector<int> from = {1, 2, 3, 4};
  const Buffer to = backend->allocate(16);
  backend->copy_to_device(to.data(), from.data(), 16);
  const std::unique_ptr<Event> event = backend->record();
  EXPECT_TRUE(event->done());
  event->wait();
  std::vector<int> back(4);
  backend->copy_to_host(back.data(), to.data(), 16);
  EXPECT_EQ(back, from);
  backend->copy_on_device(to.as<int>() + 1, to.data(), 12);  // overlapping
  EXPECT_THAT(std::vector<int>(to.as<int>(), to.as<int>() + 4), testing::ElementsAre(1, 1, 2, 3));
  backend->zero(to.as<int>() + 1, 8);
  EXPECT_THAT(std::vector<int>(to.as<int>(), to.as<int>() + 4), testing::ElementsAre(1, 0, 0, 3));
  backend->copy_to_device(nullptr, nullptr, 0);
  backend->zero(nullptr, 0);
  backend->synchronize();
}

TEST(CpuBackend, UnknownForcedOpsAndVariantsNameTheKnownOnes) {
  expect_error(ErrorKind::kBadInput,
               AllOf(HasSubstr("'rmsnorm'"), HasSubstr("all, embed"), HasSubstr("rms_norm")), [] {
                 cpu(1, {{"rmsnorm", "ref"}});
               });
  expect_error(ErrorKind::kBadInput,
               AllOf(HasSubstr("'sse2'"), HasSubstr("avx512_vnni, avx2, portable, ref")), [] {
                 cpu(1, {{"matmul", "sse2"}});
               });
  expect_error(ErrorKind::kBadInput, AllOf(HasSubstr("'fastest'"), HasSubstr("portable")), [] {
    cpu(1, {{"all", "fastest"}});
  });
}

TEST(CpuBackend, EveryOpHasRefLastAndNoNameTwice) {
  const auto ops = list_variants(DeviceKind::kCpu);
  EXPECT_EQ(ops.size(), 24U);
  for (const auto& [op, names] : ops) {
    ASSERT_FALSE(names.empty()) << op;
    EXPECT_EQ(names.back(), "ref") << op;
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size()) << op;
  }
}

TEST(CpuBackend, EveryVariantOfEveryOpCanBeForced) {
  for (const auto& [op, names] : list_variants(DeviceKind::kCpu)) {
    for (const std::string& name : names) {
      EXPECT_NO_THROW(cpu(1, {{op, name}})) << op << "=" << name;
    }
  }
}

TEST(CpuBackend, OwnEntryWinsOverAllAndAllSkipsOpsWithoutTheVariant) {
  Random rng(41);
  const test::Weights w = test::random_weights(DType::kQ4_0, 16, 32, rng);
  // all=portable leaves gather_rows (ref only) alone; matmul's own entry decides the layout.
  const auto backend = cpu(1, {{"all", "portable"}, {"matmul", "ref"}});
  EXPECT_EQ(backend->pack(w.view()).layout, WeightLayout::kRows);
  EXPECT_EQ(cpu(1, {{"all", "portable"}})->pack(w.view()).layout, WeightLayout::kRows16);
  EXPECT_EQ(cpu(1, {{"all", "ref"}})->pack(w.view()).layout, WeightLayout::kRows);
  const std::vector<float> x = {1, 2};
  const std::vector<std::int32_t> rows = {1};
  std::vector<float> out(1);
  GatherRowsArgs gather;
  gather.x = TensorView(x.data(), DType::kF32, {2, 1});
  gather.rows = TensorView(rows.data(), DType::kI32, {1});
  gather.out = TensorView(out.data(), DType::kF32, {1, 1});
  backend->ops().gather_rows(gather);
  EXPECT_EQ(out[0], 2.0F);
}

TEST(CpuBackend, PackedWeightsServeMatmulAndEmbedWithTheSameBitsOnEveryVariant) {
  Random rng(43);
  const test::Weights w = test::random_weights(DType::kQ4_1, 33, 64, rng);
  const std::vector<float> x = rng.normals(5 * 64);
  const std::vector<std::int32_t> ids = {32, 0, 17};
  std::vector<float> first;
  for (const char* const isa : {"portable", "avx2", "avx512"}) {
    const IsaLimit limit(isa);
    const auto backend = cpu();
    std::vector<std::pair<std::size_t, std::size_t>> reads;
    const PackedMatrix packed = backend->pack(
        w.view(), {}, [&](std::size_t begin, std::size_t end) { reads.emplace_back(begin, end); });
    EXPECT_THAT(reads, testing::ElementsAre(testing::Pair(0U, w.bytes.size())));
    std::vector<float> out(5 * 33 + 3 * 64);
    MatmulArgs matmul;
    matmul.x = TensorView(x.data(), DType::kF32, {5, 64});
    matmul.targets[0].weight = &packed;
    matmul.targets[0].out = TensorView(out.data(), DType::kF32, {5, 33});
    backend->ops().matmul(matmul);
    EmbedArgs embed;
    embed.ids = TensorView(ids.data(), DType::kI32, {3});
    embed.table = &packed;
    embed.out = TensorView(out.data() + 5 * 33, DType::kF32, {3, 64});
    backend->ops().embed(embed);
    if (first.empty()) first = out;
    EXPECT_TRUE(test::same_bits(out, first)) << isa;
  }
}

TEST(CpuBackend, TakesEveryWeightDtypeItNames) {
  Random rng(44);
  const auto backend = cpu();
  const std::vector<DType> known = backend->weight_dtypes();
  for (const char* type : {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K",
                           "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4"}) {
    EXPECT_THAT(known, Contains(parse_dtype(type).value())) << type;
  }
  for (const DType dtype : known) {
    const std::int64_t k = test::whole_blocks(dtype, 32);
    EXPECT_NO_THROW(backend->pack(test::random_weights(dtype, 5, k, rng).view()));
  }
}

TEST(Detect, CpuIsaLowersWhatTheProcessorCanDo) {
  {
    const IsaLimit limit("portable");
    const DeviceCaps caps = detect_cpu();
    EXPECT_FALSE(caps.avx2 || caps.avx512 || caps.avx512_vnni);
    EXPECT_EQ(caps.describe(), "no vector extensions used");
  }
  {
    const IsaLimit limit("avx2");
    const DeviceCaps caps = detect_cpu();
    EXPECT_FALSE(caps.avx512 || caps.avx512_vnni);
  }
  const IsaLimit wrong("sse");
  expect_error(ErrorKind::kBadInput, HasSubstr("known: portable, avx2, avx512"),
               [] { detect_cpu(); });
}

TEST(MakeBackend, ForcedVariantThatTheProcessorLacksIsRefusedAtOnce) {
  const IsaLimit limit("portable");
  BackendOptions options;
  options.forced = {{"matmul", "avx2"}};
  expect_error(ErrorKind::kBadInput,
               HasSubstr("--force-kernel matmul: variant 'avx2' does not run on this processor; "
                         "those that do: portable, ref"),
               [&] { make_backend(options); });
}

TEST(MakeBackend, CudaIsADeviceErrorInABuildWithoutIt) {
  std::string listing;
  try {
    list_variants(DeviceKind::kCuda);
    GTEST_SKIP() << "this build has CUDA support";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kDevice);
    listing = e.what();
  }
  EXPECT_EQ(listing, "this build has no CUDA support");
  BackendOptions options;
  options.device = DeviceKind::kCuda;
  expect_error(ErrorKind::kDevice, HasSubstr("no CUDA support"), [&] { make_backend(options); });
}

}  // namespace
}  // namespace heddle
