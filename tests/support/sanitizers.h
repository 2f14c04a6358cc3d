#pragma once
// Whether the tests are built with AddressSanitizer or ThreadSanitizer, which make them slow and
// their stack frames large. GCC has a macro per sanitizer, clang a feature test.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HEDDLE_TEST_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HEDDLE_TEST_SANITIZED true
#endif
#endif
#ifndef HEDDLE_TEST_SANITIZED
#define HEDDLE_TEST_SANITIZED false
#endif

namespace heddle::test {

inline constexpr bool kSanitized = HEDDLE_TEST_SANITIZED;

}  // namespace heddle::test
