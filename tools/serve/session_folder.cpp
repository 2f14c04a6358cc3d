#include "tools/serve/session_folder.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/new_file.h"

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

/// No id has an @.
std::string suffix_of(const std::string& client) {
  return (client.empty() ? "" : "@" + client) + std::string(kSuffix);
}

}  // namespace

SessionFolder::SessionFolder(std::string path) : path_(std::move(path)) {
  std::error_code error;
  if (on() && !fs::is_directory(path_, error)) {
    throw bad_input(fmt::format("--session-dir: {} is not a folder", path_));
  }
  if (on()) {  // a session is saved when somebody asks for it: what forbids that is told now
    NewFile probe(path_ + "/.heddle-probe", "--session-dir");
    probe.append(std::as_bytes(std::span("probe")));
  }
}

std::string SessionFolder::file_of(const Key& key) const {
  return path_ + "/" + key.id + suffix_of(key.client);
}

void SessionFolder::remember(const Key& key, std::vector<std::int32_t> tokens) {
  const std::scoped_lock lock(mutex_);
  auto& kept = tokens_[key];
  n_tokens_ = n_tokens_ - kept.size() + tokens.size();
  kept = std::move(tokens);
  order_.remove(key);
  order_.push_front(key);
  while (order_.size() > 1 && (order_.size() > kMostSessions || n_tokens_ > kMostTokens)) {
    n_tokens_ -= tokens_[order_.back()].size();
    tokens_.erase(order_.back());
    order_.pop_back();
  }
}

Json SessionFolder::list(const std::string& client) const {
  std::map<std::string, Json> all;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [key, tokens] : tokens_) {
      if (key.client != client) continue;
      all[key.id] = {
          {"id", key.id}, {"object", "session"}, {"saved", false}, {"tokens", tokens.size()}};
    }
  }
  std::error_code error;
  const std::string suffix = suffix_of(client);
  if (on()) {
    for (fs::directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
      const fs::directory_entry& entry = *it;
      const std::string file = entry.path().filename().string();
      std::error_code gone;
      if (!file.ends_with(suffix) || !entry.is_regular_file(gone)) continue;
      const std::string id = file.substr(0, file.size() - suffix.size());
      if (id.find('@') != std::string::npos) continue;  // another client's
      Json& session = all[id];
      session["id"] = id;
      session["object"] = "session";
      session["saved"] = true;
      const auto bytes = entry.file_size(gone);
      session["bytes"] = gone ? 0 : bytes;
    }
  }
  Json data = Json::array();
  for (auto& [id, session] : all) data.push_back(std::move(session));
  return {{"object", "list"}, {"data", std::move(data)}};
}

bool SessionFolder::save(EngineHost& host, const Key& key, Done done) const {
  std::vector<std::int32_t> tokens;
  {
    const std::scoped_lock lock(mutex_);
    const auto it = tokens_.find(key);
    if (it != tokens_.end()) tokens = it->second;
  }
  if (tokens.empty()) {
    done(nullptr, "no request with this session_id has been answered", true);
    return true;
  }
  return host.call([this, file = file_of(key), client = key.client, tokens = std::move(tokens),
                    done = std::move(done)](Driver& driver) {
    try {
      const SessionReport report = driver.save_session(file, tokens, client);
      done(&report, "", false);
    } catch (const std::exception& e) {
      done(nullptr, without_folder(e.what(), path_), false);
    }
  });
}

bool SessionFolder::restore(EngineHost& host, const Key& key, Done done) const {
  const std::string file = file_of(key);
  std::error_code error;
  if (!fs::exists(file, error)) {
    done(nullptr, "there is no saved session of this id", true);
    return true;
  }
  return host.call([this, file, client = key.client, done = std::move(done)](Driver& driver) {
    try {
      SessionReport report = driver.restore_session(file, client);
      std::error_code gone;
      const auto bytes = fs::file_size(file, gone);
      if (!gone) report.bytes = bytes;
      done(&report, "", false);
    } catch (const std::exception& e) {
      done(nullptr, without_folder(e.what(), path_), false);
    }
  });
}

bool SessionFolder::remove(const Key& key) {
  bool known = false;
  {
    const std::scoped_lock lock(mutex_);
    if (const auto it = tokens_.find(key); it != tokens_.end()) {
      n_tokens_ -= it->second.size();
      tokens_.erase(it);
      order_.remove(key);
      known = true;
    }
  }
  std::error_code error;
  return (on() && fs::remove(file_of(key), error)) || known;
}

}  // namespace heddle::serve
