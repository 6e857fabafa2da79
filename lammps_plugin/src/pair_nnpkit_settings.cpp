// What the input says: pair_style and pair_coeff.

#include "pair_nnpkit.h"

#include "collective.h"
#include "watch_keywords.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "fix.h"
#include "fmt/format.h"
#include "force.h"
#include "memory.h"
#include "modify.h"
#include "universe.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

using namespace LAMMPS_NS;

static constexpr int CHUNK_CPU =
    256;  // measured: fewer are slowed by overhead, more gain little and cost memory
static constexpr int CHUNK_MEMBERS = 128;  // of symmetry functions: the members' gradients stay in the cache
static constexpr int CHUNK_GPU = 1024;     // a GPU needs more atoms at once to be busy
static constexpr int CHUNK_KERNEL_GPU = 4096;  // and needs less memory for each of them in a kernel

static int usual_chunk(const nnpkit::Model &model, int threads) {
  const auto &info = model.info();
  if (model.takes_systems({})) return CHUNK_KERNEL_GPU;
  if (info.device != "cpu") return CHUNK_GPU;
  const bool fused = info.kernel.rfind("fused", 0) == 0;
  return fused && info.member_kind == "acsf" ? CHUNK_MEMBERS * threads : CHUNK_CPU;
}

// The keywords of the style itself; those of a watch are in watch_keywords.cpp.
namespace LAMMPS_NS {

struct PairKeywords {
  static const Keywords<PairNNPKit> &all() {
    static const Keywords<PairNNPKit> keywords = {
        {"device", device},
        {"precision", precision},
        {"kernel", kernel},
        {"chunk",
         [](Words &w, PairNNPKit &p) {
           p.chunk = w.whole_int(0, "a number of atoms, or 0 for all at once");
           p.chunk_set = true;
         }},
        {"omp", [](Words &w,
                   PairNNPKit &p) { p.placement.threads = w.whole_int(1, "a number of threads per rank"); }},
        {"every",
         [](Words &w, PairNNPKit &p) {
           p.every = w.whole(0, "a number of steps, or 0 for those that something asks for");
         }},
        {"percentile", percentile},
        {"ewald", ewald},
        {"mesh", mesh},
        {"charge", charge},
    };
    return keywords;
  }

 private:
  static void device(Words &words, PairNNPKit &pair) {
    const std::string value = words.value();
    if (value == "auto")
      pair.placement.device = nnpkit::Device::AUTO;
    else if (value == "cpu")
      pair.placement.device = nnpkit::Device::CPU;
    else if (value == "cuda")
      pair.placement.device = nnpkit::Device::CUDA;
    else
      words.refuse(value, "auto, cpu or cuda");
  }
  static void precision(Words &words, PairNNPKit &pair) {
    const std::string value = words.value();
    if (value == "float64")
      pair.placement.precision = nnpkit::Arithmetic::FLOAT64;
    else if (value == "mixed")
      pair.placement.precision = nnpkit::Arithmetic::MIXED;
    else if (value == "float32")
      pair.placement.precision = nnpkit::Arithmetic::FLOAT32;
    else
      words.refuse(value, "float64, mixed or float32");
  }
  static void kernel(Words &words, PairNNPKit &pair) {
    const std::string value = words.value();
    if (value != "fused" && value != "torchscript") words.refuse(value, "fused or torchscript");
    pair.placement.fused = (value == "fused");
  }
  static void charge(Words &words, PairNNPKit &pair) {
    pair.charge_words = true;
    pair.total_charge = words.number(-1.0e6, "a number of charges e");
  }
  static void ewald(Words &words, PairNNPKit &pair) {
    const std::string expected = "a relative accuracy from 1e-14 to 1e-2";
    pair.charge_words = true;
    pair.ewald_accuracy = words.number(1.0e-14, expected);
    if (pair.ewald_accuracy > 1.0e-2) words.refuse(fmt::format("{}", pair.ewald_accuracy), expected);
  }
  static void mesh(Words &words, PairNNPKit &pair) {
    pair.charge_words = true;
    pair.mesh = words.value();
    if (pair.mesh != "auto" && pair.mesh != "yes" && pair.mesh != "no")
      words.refuse(pair.mesh, "auto, yes or no");
  }
  static void percentile(Words &words, PairNNPKit &pair) {
    const std::string expected = "a number from 0 to 100";
    pair.percent = words.number(0.0, expected);
    if (pair.percent > 100.0) words.refuse(fmt::format("{}", pair.percent), expected);
  }
};

}  // namespace LAMMPS_NS

/* ---------------------------------------------------------------------- */

void PairNNPKit::allocate() {
  allocated = 1;
  const int n = atom->ntypes;
  memory->create(setflag, n + 1, n + 1, "pair:setflag");
  memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
  for (int i = 0; i <= n; i++)
    for (int j = 0; j <= n; j++) {
      setflag[i][j] = 0;
      cutsq[i][j] = 0.0;
    }
}

/* ----------------------------------------------------------------------
   pair_style nnpkit keyword value ...
------------------------------------------------------------------------- */

void PairNNPKit::settings(int narg, char **arg) {
  // the model is in eV and angstrom
  if (strcmp(update->unit_style, "metal") == 0)
    energy_unit = 1.0;
  else if (strcmp(update->unit_style, "real") == 0)
    energy_unit = utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL);
  else
    error->all(FLERR,
               fmt::format("Pair style nnpkit needs units metal or real, not {}: the model is in eV and "
                           "Angstrom and converts to these two only",
                           update->unit_style));

  // a second pair_style command starts anew: it needs a pair_coeff again
  placement = nnpkit::Placement();
  placement.rank_on_node = nnpkit::rank_on_node(universe->uworld, universe->nworlds);
  chunk_set = false;
  every = 1;
  percent = 95.0;
  ewald_accuracy = USUAL_ACCURACY;
  mesh = "auto";
  charge_words = false;
  total_charge = 0.0;
  watch_words.clear();
  drop_watch();
  clear_model();
  if (allocated)
    for (int i = 1; i <= atom->ntypes; i++)
      for (int j = i; j <= atom->ntypes; j++) setflag[i][j] = 0;

  const std::vector<std::string> given(arg, arg + narg);
  Words words(lmp, "Pair style nnpkit", given);
  const auto &own = PairKeywords::all();
  const auto &of_watch = watch_keywords();
  nnpkit::WatchSettings checked;  // here, and used by the fix
  while (words.more()) {
    const size_t begin = words.position();
    const std::string key = words.keyword();
    if (own.count(key)) {
      own.at(key)(words, *this);
    } else if (of_watch.count(key)) {
      of_watch.at(key)(words, checked);
      watch_words.insert(watch_words.end(), given.begin() + begin, given.begin() + words.position());
    } else {
      error->all(FLERR, fmt::format("Pair style nnpkit: unknown keyword '{}', expected {} or, of fix "
                                    "nnpkit/watch, {}",
                                    key, names(own), names(of_watch)));
    }
  }
}

/* ----------------------------------------------------------------------
   the fix that tells steps from trial moves, and does what the keywords of a watch ask for
------------------------------------------------------------------------- */

void PairNNPKit::make_watch() {
  if (!watch_id.empty() && modify->get_fix_by_id(watch_id)) return;
  watch_id = "nnpkit_watch";
  for (int n = 2; modify->get_fix_by_id(watch_id); n++) watch_id = fmt::format("nnpkit_watch{}", n);
  std::vector<std::string> words = {watch_id, "all", "nnpkit/watch", "1"};
  words.insert(words.end(), watch_words.begin(), watch_words.end());
  std::vector<char *> arguments;
  for (std::string &word : words) arguments.push_back(&word[0]);
  modify->add_fix(static_cast<int>(arguments.size()), arguments.data());
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::drop_watch() {
  if (!watch_id.empty() && modify && modify->get_fix_by_id(watch_id)) modify->delete_fix(watch_id);
  watch_id.clear();
}

/* ----------------------------------------------------------------------
   pair_coeff * * model.pt O H NULL
------------------------------------------------------------------------- */

void PairNNPKit::coeff(int narg, char **arg) {
  if (!allocated) allocate();
  if (narg < 3 || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
    error->all(FLERR,
               "Pair style nnpkit expects: pair_coeff * * model.pt ELEMENT ... with one element or "
               "NULL per atom type");
  load(arg[2]);
  map_types(arg[2], narg - 3, arg + 3);
  make_watch();
  log_model(arg[2]);
}

/* ----------------------------------------------------------------------
   all ranks load the model, or all ranks stop with the same message
------------------------------------------------------------------------- */

void PairNNPKit::load(const std::string &file) {
  // LAMMPS looks into the folders of LAMMPS_POTENTIALS too
  const std::string found = utils::get_potential_file_path(file);
  model_file = found.empty() ? file : found;
  clear_model();
  initialised = memory_is_known = false;
  std::string problem;
  try {
    const std::string bytes = nnpkit::read_on_first_rank(found.empty() ? file : found, world);
    try {
      do {
        placement.member = static_cast<int>(members.size());
        members.push_back(nnpkit::load_model(bytes, placement));
        model = members.front().get();
      } while (model->info().apart && static_cast<int>(members.size()) < model->info().n_members);
    } catch (const std::exception &failure) {
      problem = file + ": " + failure.what();
    }
  } catch (const std::exception &failure) {
    error->all(FLERR, fmt::format("Pair style nnpkit: {}", failure.what()));  // same on all ranks
  }
  problem = nnpkit::agree_on_error(problem, world);
  if (!problem.empty()) error->all(FLERR, fmt::format("Pair style nnpkit: {}", problem));
  describe_members();
  if (!chunk_set) chunk = usual_chunk(*model, placement.threads);
  lists.current = false;
  // what flows between two atoms goes through a third: the edges do not tell
  centroidstressflag = info().fields.empty() ? CENTROID_AVAIL : CENTROID_NOTAVAIL;
}

/* ----------------------------------------------------------------------
   what is said of a file: members that are evaluated one by one show their features side by side
------------------------------------------------------------------------- */

void PairNNPKit::describe_members() {
  whole = model->info();
  unit = energy_unit / static_cast<double>(members.size());
  all_features = whole.n_functions = 0;
  for (const auto &one : members) {
    whole.n_functions += one->info().n_functions;
    if (one->info().describes) all_features += one->n_features();
  }
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::clear_model() {
  members.clear();
  interactions.clear();
  model = nullptr;
  member = 0;
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::map_types(const std::string &file, int given, char **names) {
  const auto &known = info().elements;
  const std::string listed = utils::join_words(known, " ");
  const int ntypes = atom->ntypes;
  if (given != ntypes)
    error->all(FLERR,
               fmt::format("Pair style nnpkit: pair_coeff * * {} needs one element or NULL for each of the "
                           "{} atom types, got {}; the model knows {}",
                           file, ntypes, given, listed));

  element.assign(ntypes + 1, -1);
  for (int itype = 1; itype <= ntypes; itype++) {
    const std::string name = names[itype - 1];
    if (name == "NULL") continue;
    const auto at = std::find(known.begin(), known.end(), name);
    if (at == known.end())
      error->all(FLERR,
                 fmt::format("Pair style nnpkit: element {} of atom type {} is not in {}, which knows {}",
                             name, itype, file, listed));
    element[itype] = static_cast<int>(at - known.begin());
  }

  int count = 0;
  for (int i = 1; i <= ntypes; i++)
    for (int j = i; j <= ntypes; j++) {
      setflag[i][j] = (element[i] >= 0 && element[j] >= 0) ? 1 : 0;
      count += setflag[i][j];
    }
  if (count == 0) error->all(FLERR, "Pair style nnpkit: every atom type is NULL");
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::log_model(const std::string &file) {
  if (comm->me != 0) return;
  const auto &info = whole;
  std::string mapping;
  for (int itype = 1; itype <= atom->ntypes; itype++)
    mapping += fmt::format(" {}={}", itype, element[itype] < 0 ? "NULL" : info.elements[element[itype]]);
  const std::string chunks = chunk ? fmt::format("{} atoms at once", chunk) : "all atoms at once";
  const std::string kind = info.n_members > 1 ? fmt::format("committee of {} potentials", info.n_members)
                                              : fmt::format("{} potential", info.kind);

  utils::logmesg(lmp, "nnpkit: {}: {} for {}, cutoff {:.6g} A, {} parameters\n", file, kind,
                 utils::join_words(info.elements, " "), info.cutoff, info.n_parameters);
  utils::logmesg(lmp, "nnpkit: atom types{}; {}, {}{}, {} thread(s) per rank, {}\n", mapping, info.device,
                 info.precision, info.kernel.empty() ? "" : ", " + info.kernel, placement.threads, chunks);
  utils::logmesg(lmp,
                 "nnpkit: self-test passed (energy {:.1e} eV, gradient {:.1e} eV/A); torch {}, file "
                 "written by nnpkit {} with torch {}\n",
                 info.energy_error, info.gradient_error, NNPKIT_TORCH_VERSION, info.nnpkit_version,
                 info.torch_version);
  if (!info.missing_baseline.empty())
    error->warning(
        FLERR,
        "Pair style nnpkit: {} is a correction to {}, which the file does not hold; add it with pair "
        "style hybrid/overlay, or energies and forces are not those of the training data",
        file, info.missing_baseline);
}
