#pragma once
#include <string>
#include <vector>

#include "engine/engine.h"
#include "tools/needle/target.h"

namespace heddle::needle {

/// Greedy answers of an engine in this process. Prompts begin behind what earlier ones have left
/// in its prefix cache, unless that is off.
class EngineTarget final : public Target {
 public:
  /// `engine` must outlive this. `stop`: texts that end any answer, beside the prompt's own.
  EngineTarget(Engine& engine, std::vector<std::string> stop)
      : engine_(engine), stop_(std::move(stop)) {}
  void ask(Question question,
           std::function<void()> prefilled,
           std::function<void(Reply)> done) override;
  bool step() override { return engine_.step(); }

 private:
  Engine& engine_;
  std::vector<std::string> stop_;
};

}  // namespace heddle::needle
