# The chat page as a string in the program: a raw literal may not be longer than 64 KiB on some
# compilers, so it is cut into lines of bytes.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUTPUT}
"#include \"tools/serve/page/page.h\"

namespace heddle::serve {
namespace {
constexpr unsigned char kPage[] = {
${bytes}};
}  // namespace

std::string_view chat_page() {
  return {reinterpret_cast<const char*>(kPage), sizeof kPage};
}

}  // namespace heddle::serve
")
