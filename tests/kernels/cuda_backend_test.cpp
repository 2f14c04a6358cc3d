// The CUDA backend: memory, copies, events, and what it says where something is missing.

#include <gmock/gmock.h>

#include <thread>

#include "tests/kernels/cuda_support.h"
#include "tests/support/random.h"
#if HEDDLE_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace heddle {
namespace {

using testing::HasSubstr;

std::vector<std::byte> random_bytes(std::size_t n, std::uint64_t seed) {
  test::Random random(seed);
  std::vector<std::byte> bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.bits());
  return bytes;
}

/// The error that `f` throws; the test fails where it throws none.
template <typename F>
Error error_of(const F& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no error was thrown";
  return runtime_failure("none");
}

BackendOptions cuda_options() {
  BackendOptions options;
  options.device = DeviceKind::kCuda;
  return options;
}

TEST(CudaBackend, AbsenceOfADeviceIsADeviceError) {
  bool present = true;
  try {
    make_backend(cuda_options());
  } catch (const Error& e) {
    present = false;
    EXPECT_EQ(e.kind(), ErrorKind::kDevice);
    EXPECT_THAT(e.what(), HasSubstr("CUDA"));
  }
  if (present) GTEST_SKIP() << "there is a CUDA device";
}

#if HEDDLE_CUDA
TEST(CudaBackend, ListsItsVariantsWithoutADevice) {
  for (const auto& [op, names] : list_variants(DeviceKind::kCuda)) {
    ASSERT_FALSE(names.empty()) << op;
    EXPECT_EQ(names.back(), "plain") << op;
  }
}

TEST(CudaBackend, UnknownForcedVariantsNameTheKnownOnes) {
  BackendOptions options = cuda_options();
  options.forced = {{"rms_norm", "avx2"}};
  const Error variant = error_of([&] { make_backend(options); });
  EXPECT_EQ(variant.kind(), ErrorKind::kBadInput);
  EXPECT_THAT(variant.what(), HasSubstr("packs, plain"));
  options.forced = {{"norm", "plain"}};
  const Error op = error_of([&] { make_backend(options); });
  EXPECT_EQ(op.kind(), ErrorKind::kBadInput);
  EXPECT_THAT(op.what(), HasSubstr("known: all, embed, gather_rows, rms_norm"));
  options.forced = {{"all", "fastest"}};
  EXPECT_EQ(error_of([&] { make_backend(options); }).kind(), ErrorKind::kBadInput);
}

TEST(CudaBackend, ListingDevicesNeverNeedsOne) {
  EXPECT_NO_THROW(cuda_devices());
}

TEST(CudaBackend, DevicesAreListedWithTheirCapability) {
  HEDDLE_CUDA_OR_SKIP(backend);
  const std::vector<std::string> lines = cuda_devices();
  ASSERT_FALSE(lines.empty());
  EXPECT_THAT(lines[0], testing::StartsWith("0: "));
  EXPECT_THAT(lines[0], HasSubstr("compute capability"));
}
#endif

TEST(CudaBackend, DescribesItsDevice) {
  HEDDLE_CUDA_OR_SKIP(backend, {{"all", "plain"}});
  EXPECT_EQ(backend->kind(), DeviceKind::kCuda);
  EXPECT_EQ(backend->caps().cuda_sm, 90);
  EXPECT_EQ(backend->threads(), 1);
  EXPECT_THAT(backend->describe(), HasSubstr("compute capability 9.0"));
}

TEST(CudaBackend, DeviceThatDoesNotExistIsADeviceError) {
  HEDDLE_CUDA_OR_SKIP(backend);
  BackendOptions options = cuda_options();
  for (const int device : {-1, 1000}) {
    options.cuda_device = device;
    const Error e = error_of([&] { make_backend(options); });
    EXPECT_EQ(e.kind(), ErrorKind::kDevice);
    EXPECT_THAT(e.what(), HasSubstr("device " + std::to_string(device) + " does not exist"));
  }
}

TEST(CudaBackend, CopiesKeepEveryByte) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const std::size_t n :
       {std::size_t{0}, std::size_t{1}, std::size_t{255}, (std::size_t{1} << 20) + 3}) {
    const std::vector<std::byte> sent = random_bytes(n, n);
    std::vector<std::byte> received(n);
    const Buffer a = backend->allocate(n);
    const Buffer b = backend->allocate(n);
    backend->copy_to_device(a.data(), sent.data(), n);
    backend->copy_on_device(b.data(), a.data(), n);
    backend->copy_to_host(received.data(), b.data(), n);
    backend->synchronize();
    EXPECT_EQ(received, sent) << n;
  }
}

TEST(CudaBackend, PinnedHostMemoryIsZeroedAndCopiesFromIt) {
  HEDDLE_CUDA_OR_SKIP(backend);
  constexpr std::size_t kBytes = 100'001;
  const Buffer host = backend->allocate_host(kBytes);
  EXPECT_EQ(std::vector<std::byte>(host.data(), host.data() + kBytes),
            std::vector<std::byte>(kBytes));
  const std::vector<std::byte> sent = random_bytes(kBytes, 1);
  std::memcpy(host.data(), sent.data(), kBytes);
  const Buffer device = backend->allocate(kBytes);
  const Buffer back = backend->allocate_host(kBytes);
  backend->copy_to_device(device.data(), host.data(), kBytes);
  backend->copy_to_host(back.data(), device.data(), kBytes);
  backend->synchronize();
  EXPECT_EQ(std::vector<std::byte>(back.data(), back.data() + kBytes), sent);
}

TEST(CudaBackend, AllocationsAreZeroedAndAligned) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const std::size_t n : {1U, 1000U, 5'000'000U}) {
    {  // dirty the memory that the next allocation is likely to get
      const Buffer dirty = backend->allocate(n);
      const std::vector<std::byte> ones(n, std::byte{0xFF});
      backend->copy_to_device(dirty.data(), ones.data(), n);
      backend->synchronize();
    }
    const Buffer memory = backend->allocate(n);
    EXPECT_EQ(memory.bytes(), n);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 256, 0U);
    std::vector<std::byte> content(n, std::byte{1});
    backend->copy_to_host(content.data(), memory.data(), n);
    backend->synchronize();
    EXPECT_EQ(content, std::vector<std::byte>(n)) << n;
  }
}

TEST(CudaBackend, BufferOfNoBytesHasAnAddress) {
  HEDDLE_CUDA_OR_SKIP(backend);
  EXPECT_NE(backend->allocate(0).data(), nullptr);
  EXPECT_NE(backend->allocate_host(0).data(), nullptr);
}

TEST(CudaBackend, ZeroTouchesItsRangeAlone) {
  HEDDLE_CUDA_OR_SKIP(backend);
  const std::vector<std::byte> before(1000, std::byte{7});
  std::vector<std::byte> after(1000);
  const Buffer memory = backend->allocate(1000);
  backend->copy_to_device(memory.data(), before.data(), 1000);
  backend->zero(memory.data() + 10, 501);
  backend->zero(memory.data() + 900, 0);
  backend->copy_to_host(after.data(), memory.data(), 1000);
  backend->synchronize();
  for (std::size_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(after[i], i >= 10 && i < 511 ? std::byte{0} : std::byte{7}) << i;
  }
}

TEST(CudaBackend, EventIsDoneOnceTheLargeCopiesBeforeItAre) {
  HEDDLE_CUDA_OR_SKIP(backend);
  constexpr std::size_t kBytes = 256U << 20;
  const Buffer from = backend->allocate(kBytes);
  const Buffer to = backend->allocate(kBytes);
  const Buffer marker = backend->allocate_host(4);
  const std::vector<std::byte> seven(4, std::byte{7});
  backend->synchronize();
  for (int i = 0; i < 50; ++i) backend->copy_on_device(to.data(), from.data(), kBytes);
  backend->copy_to_device(to.data(), seven.data(), 4);
  backend->copy_to_host(marker.data(), to.data(), 4);
  const std::unique_ptr<Event> event = backend->record();
  event->wait();
  EXPECT_TRUE(event->done());
  EXPECT_EQ(marker.data()[0], std::byte{7});

  // About 9 ms of copies: the host is back long before they end.
  for (int i = 0; i < 50; ++i) backend->copy_on_device(to.data(), from.data(), kBytes);
  const std::unique_ptr<Event> later = backend->record();
  EXPECT_FALSE(later->done());
  EXPECT_TRUE(event->done());
  later->wait();
  EXPECT_TRUE(later->done());
}

TEST(CudaBackend, EventOutlivesItsBackend) {
  HEDDLE_CUDA_OR_SKIP(backend);
  std::unique_ptr<Backend> other = make_backend(cuda_options());
  const std::unique_ptr<Event> event = other->record();
  other.reset();
  event->wait();
  EXPECT_TRUE(event->done());
}

TEST(CudaBackend, MoreMemoryThanThereIsIsAMemoryErrorAndHarmless) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const std::size_t bytes : {std::size_t{1} << 50, std::size_t{1} << 62, ~std::size_t{0}}) {
    const Error e = error_of([&] { backend->allocate(bytes); });
    EXPECT_EQ(e.kind(), ErrorKind::kMemory) << e.what();
    EXPECT_THAT(e.what(), HasSubstr(std::to_string(bytes)));
    EXPECT_THAT(e.what(), HasSubstr("are free"));
  }
  const Error host = error_of([&] { backend->allocate_host(std::size_t{1} << 60); });
  EXPECT_EQ(host.kind(), ErrorKind::kMemory) << host.what();
  std::byte answer{1};
  const Buffer memory = backend->allocate(16);
  backend->copy_to_host(&answer, memory.data(), 1);
  backend->synchronize();
  EXPECT_EQ(answer, std::byte{0});
}

TEST(CudaBackend, WorksFromAnotherThreadThanTheOneThatMadeIt) {
  HEDDLE_CUDA_OR_SKIP(backend);
  const std::vector<std::byte> sent = random_bytes(4096, 2);
  std::vector<std::byte> received(4096);
  std::thread worker([&] {
    const Buffer memory = backend->allocate(4096);
    backend->copy_to_device(memory.data(), sent.data(), 4096);
    backend->copy_to_host(received.data(), memory.data(), 4096);
    backend->synchronize();
  });
  worker.join();
  EXPECT_EQ(received, sent);
}

TEST(CudaBackend, PackIsRefused) {
  HEDDLE_CUDA_OR_SKIP(backend);
  const std::vector<float> weights(64);
  const TensorView view(weights.data(), DType::kF32, {2, 32});
  EXPECT_TRUE(backend->weight_dtypes().empty());
  const Error e = error_of([&] { backend->pack(view); });
  EXPECT_EQ(e.kind(), ErrorKind::kDevice);
  EXPECT_THAT(e.what(), HasSubstr("packed"));
}

}  // namespace
}  // namespace heddle
