// The engine as a library: loads a checkpoint, asks one question, prints the answer as it comes.
#include <cstdio>
#include <exception>

#include "engine/engine.h"

int main(int argc, char** argv) {
  if (argc != 3) return std::fputs("usage: library_example MODEL.gguf QUESTION\n", stderr), 2;
  try {
    heddle::EngineOptions options;
    options.model = argv[1];
    const auto engine = heddle::Engine::load(options);
    heddle::Request request;
    request.prompt = engine->encode_chat({{"user", argv[2], ""}});
    request.max_new_tokens = 64;
    engine->submit(request,
                   [](const heddle::RequestEvent& e) { std::fputs(e.text.c_str(), stdout); });
    engine->run();
    std::puts("");
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
  }
}
