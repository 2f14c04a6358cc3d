#include "tools/serve/session_folder.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace heddle::serve {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kSuffix = ".session";

/// What of an error may be told to a client: no path of this machine.
std::string without_folder(const std::string& text, const std::string& folder) {
  const std::size_t at = text.find(folder);
  if (at == std::string::npos) return text;
  std::string out = text;
  out.erase(at, folder.size() + 1);
  return out;
}

}  // namespace

SessionFolder::SessionFolder(std::string path) : path_(std::move(path)) {
  std::error_code error;
  if (on() && !fs::is_directory(path_, error)) {
    throw bad_input(fmt::format("--session-dir: {} is not a folder", path_));
  }
}

std::string SessionFolder::file_of(const std::string& id) const {
  return path_ + "/" + id + std::string(kSuffix);
}

void SessionFolder::remember(const std::string& id, std::vector<std::int32_t> tokens) {
  const std::scoped_lock lock(mutex_);
  auto& kept = tokens_[id];
  n_tokens_ = n_tokens_ - kept.size() + tokens.size();
  kept = std::move(tokens);
  order_.remove(id);
  order_.push_front(id);
  while (order_.size() > 1 && (order_.size() > 1024 || n_tokens_ > kMostTokens)) {
    n_tokens_ -= tokens_[order_.back()].size();
    tokens_.erase(order_.back());
    order_.pop_back();
  }
}

Json SessionFolder::list() const {
  std::map<std::string, Json> all;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [id, tokens] : tokens_) {
      all[id] = {{"id", id}, {"object", "session"}, {"saved", false}, {"tokens", tokens.size()}};
    }
  }
  std::error_code error;
  if (on()) {
    for (const auto& entry : fs::directory_iterator(path_, error)) {
      const std::string file = entry.path().filename().string();
      if (!file.ends_with(kSuffix)) continue;
      const std::string id = file.substr(0, file.size() - kSuffix.size());
      Json& session = all[id];
      session["id"] = id;
      session["object"] = "session";
      session["saved"] = true;
      session["bytes"] = entry.file_size(error);
    }
  }
  Json data = Json::array();
  for (auto& [id, session] : all) data.push_back(std::move(session));
  return {{"object", "list"}, {"data", std::move(data)}};
}

bool SessionFolder::save(EngineHost& host, const std::string& id, Done done) const {
  std::vector<std::int32_t> tokens;
  {
    const std::scoped_lock lock(mutex_);
    const auto it = tokens_.find(id);
    if (it != tokens_.end()) tokens = it->second;
  }
  if (tokens.empty()) {
    done(nullptr, "no request with this session_id has been answered", true);
    return true;
  }
  return host.call([this, file = file_of(id), tokens = std::move(tokens),
                    done = std::move(done)](Driver& driver) {
    try {
      const SessionReport report = driver.save_session(file, tokens);
      done(&report, "", false);
    } catch (const std::exception& e) {
      done(nullptr, without_folder(e.what(), path_), false);
    }
  });
}

bool SessionFolder::restore(EngineHost& host, const std::string& id, Done done) const {
  const std::string file = file_of(id);
  std::error_code error;
  if (!fs::exists(file, error)) {
    done(nullptr, "there is no saved session of this id", true);
    return true;
  }
  return host.call([this, file, done = std::move(done)](Driver& driver) {
    try {
      const SessionReport report = driver.restore_session(file);
      done(&report, "", false);
    } catch (const std::exception& e) {
      done(nullptr, without_folder(e.what(), path_), false);
    }
  });
}

bool SessionFolder::remove(const std::string& id) {
  bool known = false;
  {
    const std::scoped_lock lock(mutex_);
    if (const auto it = tokens_.find(id); it != tokens_.end()) {
      n_tokens_ -= it->second.size();
      tokens_.erase(it);
      order_.remove(id);
      known = true;
    }
  }
  std::error_code error;
  return (on() && fs::remove(file_of(id), error)) || known;
}

}  // namespace heddle::serve
