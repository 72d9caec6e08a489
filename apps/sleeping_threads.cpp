#include <unistd.h>

#include <string_view>

// libgomp, under libtorch, lets threads that wait for work spin. Beside OpenBLAS's threads, or any
// other program, they take the processors from those that work: evaluation with two threads on a
// busy two-core machine was four times slower. libgomp reads its setting when it is loaded, before
// main, and has no call to change it. This runs earlier still, before libc has an environment to
// set, so the setting takes the place of the shell's "_", the path of this program, which nothing
// here reads.
namespace {

char setting[] = "OMP_WAIT_POLICY=passive";

void let_waiting_threads_sleep(int, char**, char** environment) {
  char** spare = nullptr;
  for (; *environment != nullptr; ++environment) {
    const std::string_view variable(*environment);
    if (variable.starts_with("OMP_WAIT_POLICY=")) return;
    if (variable.starts_with("_=")) spare = environment;
  }
  if (spare != nullptr) *spare = setting;
}

using Initialiser = void (*)(int, char**, char**);
[[gnu::section(".preinit_array"), gnu::used]] Initialiser const first = let_waiting_threads_sleep;

}  // namespace
