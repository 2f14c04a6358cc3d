#include <png.h>

#include <memory>

#include "base/error.h"
#include "tools/needle/report/raster.h"

namespace heddle::needle {

/// libpng's simplified interface: no longjmp over our frames, no date, no other chunk than the
/// picture's.
std::string png_of(const Image& image) {
  HEDDLE_CHECK(image.rgb.size() == image.width * image.height * 3);
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  const std::unique_ptr<png_image, decltype(&png_image_free)> freed(&png, &png_image_free);
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::string bytes(size, '\0');
  if (png_image_write_to_memory(&png, bytes.data(), &size, 0, image.rgb.data(), 0, nullptr) == 0) {
    throw runtime_failure(std::string("the picture cannot be written as PNG: ") + png.message);
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace heddle::needle
