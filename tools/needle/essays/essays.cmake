# The essays as one array of bytes in the program: raw literals may not be longer than 64 KiB on some
# compilers. INPUTS: the files, divided by ":".
string(REPLACE ":" ";" inputs "${INPUTS}")
set(bytes "")
foreach(input IN LISTS inputs)
  file(READ ${input} hex HEX)
  string(APPEND bytes "${hex}0a0a")
endforeach()
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUTPUT}
"#include \"tools/needle/haystack.h\"

namespace heddle::needle {
namespace {
constexpr unsigned char kEssays[] = {
${bytes}};
}  // namespace

std::string_view essays() {
  return {reinterpret_cast<const char*>(kEssays), sizeof kEssays};
}

}  // namespace heddle::needle
")
