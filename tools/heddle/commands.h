#pragma once
// The subcommands. Each returns the exit code; errors are thrown (main turns them into texts).

#include "tools/heddle/flags.h"

namespace heddle::cli {

int run_generate(const Arguments& args);
int run_prompts(const Arguments& args);  // generate --prompts
int run_chat(const Arguments& args);
int run_score(const Arguments& args);
int run_tokenize(const Arguments& args);
int run_inspect(const Arguments& args);
int run_bench(const Arguments& args);
int run_bench_serve(const Arguments& args);    // bench serve
int run_bench_kernels(const Arguments& args);  // bench --kernels
int run_pull(const Arguments& args);
int run_version(const Arguments& args);
int run_serve(const Arguments& args);
int run_batch(const Arguments& args);
int run_needle(const Arguments& args);
int run_selftest_command(const Arguments& args);
int list_kernels(const Arguments& args);

}  // namespace heddle::cli
