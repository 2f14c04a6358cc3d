// Suite ruler: its eight needle tasks.

#include "tools/needle/task.h"
#include "tools/needle/tasks/magic.h"

namespace heddle::needle {
namespace {

constexpr std::int64_t kRoom = 128;

constexpr TaskSpec kTasks[] = {
    {"ruler", "niah_single_1", "a seven-digit number in noise", false, kRoom,
     magic<MagicForm{.hay = Hay::kNoise}>},
    {"ruler", "niah_single_2", "a seven-digit number in prose", false, kRoom, magic<MagicForm{}>},
    {"ruler", "niah_single_3", "a UUID in prose", false, kRoom,
     magic<MagicForm{.values = ValueKind::kUuid}>},
    {"ruler", "niah_multikey_1", "numbers of 4 keys in prose, one asked for", false, kRoom,
     magic<MagicForm{.n_keys = 4}>},
    {"ruler", "niah_multikey_2", "the number of a word pair among other such pairs", false, kRoom,
     magic<MagicForm{.hay = Hay::kLines}>},
    {"ruler", "niah_multikey_3", "the UUID of a UUID among other such pairs", false, kRoom,
     magic<MagicForm{.hay = Hay::kLines, .keys = ValueKind::kUuid, .values = ValueKind::kUuid}>},
    {"ruler", "niah_multivalue", "4 numbers of one key in prose", false, kRoom,
     magic<MagicForm{.n_values = 4}>},
    {"ruler", "niah_multiquery", "numbers of 4 keys in prose, all asked for", false, kRoom,
     magic<MagicForm{.n_keys = 4, .n_queries = 4}>},
};

}  // namespace

std::span<const TaskSpec> ruler_needle_tasks() {
  return kTasks;
}

}  // namespace heddle::needle
