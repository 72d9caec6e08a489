#include "cajal/data/catalogue.h"

#include <algorithm>
#include <cstdlib>

#include "cajal/core/error.h"
#include "cajal/core/registry.h"

namespace cajal::data {
namespace fs = std::filesystem;
namespace {

/// The file at each of these bases.
RemoteFile mirrored(const std::vector<std::string>& bases, RemoteFile file) {
  for (const auto& base : bases) file.urls.push_back(base + file.name);
  return file;
}

// Sums: the digits as TensorFlow Datasets and torchvision publish them.
Dataset mnist() {
  const std::vector<std::string> bases = {"https://storage.googleapis.com/cvdf-datasets/mnist/",
                                          "https://ossci-datasets.s3.amazonaws.com/mnist/"};
  Dataset set{"mnist",
              "70,000 handwritten digits, 28 x 28 grey, 10 classes (IDX)",
              "CC BY-SA 3.0",
              "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document "
              "recognition, Proc. IEEE 86(11), 1998",
              "mnist10k",
              "MNIST-10k: the 10,000 test digits only"};
  set.files = {mirrored(bases, {"train-images-idx3-ubyte.gz",
                                {},
                                9'912'422,
                                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                                "f68b3c2dcbeaaa9fbdd348bbdeb94873"}),
               mirrored(bases, {"train-labels-idx1-ubyte.gz",
                                {},
                                28'881,
                                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                                "d53e105ee54ea40749a09fcbcd1e9432"}),
               mirrored(bases, {"t10k-images-idx3-ubyte.gz",
                                {},
                                1'648'877,
                                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                                "9fb629c4189551a2d022fa330f9573f3"}),
               mirrored(bases, {"t10k-labels-idx1-ubyte.gz",
                                {},
                                4'542,
                                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                                "ec29112dd5afa0611ce80d1b7f02629c"})};
  return set;
}

Dataset fashion_mnist() {
  const std::vector<std::string> bases = {
      "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
      "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/",
      "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"};
  Dataset set{"fashion-mnist",
              "70,000 pictures of clothing, 28 x 28 grey, 10 classes (IDX)",
              "MIT",
              "Xiao, Rasul, Vollgraf: Fashion-MNIST, arXiv 1708.07747, 2017",
              "fashion-mnist-3600",
              "Fashion-MNIST-3600: the first 3,600 training pictures only"};
  set.files = {mirrored(bases, {"train-images-idx3-ubyte.gz",
                                {},
                                26'421'880,
                                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                                "8d4fb7e6c68d591d4c3dfef9ec88bf0d"}),
               mirrored(bases, {"train-labels-idx1-ubyte.gz",
                                {},
                                29'515,
                                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                                "25c81989df183df01b3e8a0aad5dffbe"}),
               mirrored(bases, {"t10k-images-idx3-ubyte.gz",
                                {},
                                4'422'102,
                                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                                "bef4ecab320f06d8554ea6380940ec79"}),
               mirrored(bases, {"t10k-labels-idx1-ubyte.gz",
                                {},
                                5'148,
                                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                                "bb300cfdad3c16e7a12a480ee83cd310"})};
  return set;
}

Dataset cifar10() {
  Dataset set{"cifar10",
              "60,000 colour pictures, 32 x 32, 10 classes (binary version)",
              "none stated by the authors",
              "Krizhevsky: Learning multiple layers of features from tiny images, 2009",
              "cifar10",
              "whole"};
  set.files = {mirrored({"https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"},
                        {"cifar-10-binary.tar.gz",
                         {},
                         170'052'171,
                         "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                         "c32a1d4ab5d03f1284b67883e8d87530",
                         Unpack::extract})};
  return set;
}

Dataset wikitext2() {
  Dataset set{"wikitext2",
              "WikiText-2 raw: 2 million words of good Wikipedia articles",
              "CC BY-SA 3.0",
              "Merity, Xiong, Bradbury, Socher: Pointer sentinel mixture models, arXiv 1609.07843",
              "wikitext2",
              "whole"};
  set.files = {mirrored({"https://wikitext.smerity.com/",
                         "https://huggingface.co/datasets/ggml-org/ci/resolve/main/"},
                        {"wikitext-2-raw-v1.zip",
                         {},
                         4'721'645,
                         "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
                         "",
                         Unpack::extract})};
  return set;
}

Dataset tinystories() {
  const std::vector<std::string> bases = {
      "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/"};
  Dataset set{
      "tinystories",      "2.7 million short stories in a small vocabulary (version 2, GPT-4)",
      "CDLA-Sharing-1.0", "Eldan, Li: TinyStories, arXiv 2305.07759, 2023",
      "tinystories",      "TinyStories V2"};
  set.files = {mirrored(bases, {"TinyStoriesV2-GPT4-train.txt",
                                {},
                                2'227'753'162,
                                "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443",
                                ""}),
               mirrored(bases, {"TinyStoriesV2-GPT4-valid.txt",
                                {},
                                22'502'601,
                                "6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
                                ""})};
  return set;
}

// Sums: the hourly files were hashed from the pinned commit; of the others only the MD5 is known.
Dataset ett() {
  const std::vector<std::string> bases = {
      "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/"
      "1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/"};
  Dataset set{"ett",
              "oil temperature and loads of two transformers, hourly and quarter-hourly (CSV)",
              "CC BY-ND 4.0",
              "Zhou et al.: Informer, AAAI 2021",
              "ett-hourly",
              "ETTh1 and ETTh2 only"};
  set.files = {
      mirrored(bases, {"ETTh1.csv",
                       {},
                       2'589'657,
                       "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
                       "8381763947c85f4be6ac456c508460d6"}),
      mirrored(bases, {"ETTh2.csv",
                       {},
                       2'417'960,
                       "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b",
                       "51a229a3fc13579dd939364fefe9c7ab"}),
      mirrored(bases, {"ETTm1.csv", {}, 10'360'719, "", "82d6bd89109c63d075d99c1077b33f38"}),
      mirrored(bases, {"ETTm2.csv", {}, 9'677'236, "", "7687e47825335860bf58bccb31be0c56"})};
  return set;
}

struct Sum {
  const char* part;
  int64_t bytes;
  const char* sha256;
};

// Hashed from the pinned commit of the authors' repository.
Dataset planetoid(const std::string& name, const std::string& what, const std::vector<Sum>& sums) {
  const std::vector<std::string> bases = {
      "https://raw.githubusercontent.com/kimiyoung/planetoid/"
      "af6abf468a772cc055bec88c52e4d6f51b7c37e3/data/",
      "https://raw.githubusercontent.com/tkipf/gcn/master/gcn/data/"};
  Dataset set{name,
              what,
              "MIT (the repository's)",
              "Yang, Cohen, Salakhutdinov: Revisiting semi-supervised learning with graph "
              "embeddings, ICML 2016",
              "planetoid",
              what};
  for (const auto& [part, bytes, sha256] : sums)
    set.files.push_back(mirrored(bases, {"ind." + name + "." + part, {}, bytes, sha256, ""}));
  return set;
}

Dataset cora() {
  return planetoid(
      "cora", "citation graph, 2,708 papers, 7 classes, Planetoid split",
      {{"y", 4'054, "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1"},
       {"tx", 148'025, "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a"},
       {"ty", 28'135, "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad"},
       {"allx", 257'305, "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543"},
       {"ally", 47'959, "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71"},
       {"graph", 59'847, "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d"},
       {"test.index", 5'000, "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875"}});
}

Dataset citeseer() {
  return planetoid(
      "citeseer", "citation graph, 3,327 papers, 6 classes, Planetoid split",
      {{"y", 3'014, "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924"},
       {"tx", 260'321, "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21"},
       {"ty", 24'135, "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce"},
       {"allx", 595'021, "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668"},
       {"ally", 55'623, "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95"},
       {"graph", 61'987, "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7"},
       {"test.index", 5'000, "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4"}});
}

Dataset sentence_polarity() {
  Dataset set{"sentence-polarity",
              "10,662 one-sentence film reviews, two classes",
              "CC BY 4.0 (as its distributor states)",
              "Pang, Lee: Seeing stars, ACL 2005",
              "sentence-polarity",
              "whole"};
  set.files = {
      mirrored({"https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/"},
               {"sentence_polarity.zip", {}, 0, "", "", Unpack::extract})};
  return set;
}

/// A set that has no download: this project's own selection of public files.
Dataset local(std::string name, std::string what, std::string licence, std::string citation,
              std::string folder) {
  return {std::move(name),     std::move(what),   std::move(licence),
          std::move(citation), std::move(folder), "whole"};
}

std::vector<Dataset> all() {
  std::vector<Dataset> sets = {
      mnist(),
      fashion_mnist(),
      cifar10(),
      wikitext2(),
      tinystories(),
      ett(),
      cora(),
      citeseer(),
      sentence_polarity(),
      local("classics", "100 MB of English prose, documents parted by <|endoftext|> lines",
            "public domain", "authors and titles in its BOOKS.txt", "classics"),
      local("photos", "seven uncompressed test photographs (PPM, PGM)", "CC0 and public domain",
            "the scikit-image test pictures", "photos"),
      local("darcy-burgers", "small operator-learning sets: Darcy flow, Burgers (NPY)", "MIT",
            "the neuraloperator repository; Li et al., ICLR 2021", "darcy-burgers"),
      local("fda-curves", "NOx days and Tecator spectra: functional data (CSV)",
            "see its ORIGIN.md (Tecator's note travels with it)",
            "Febrero et al. 2008; Tecator, StatLib", "fda-curves"),
      local("spoken-digits", "half of the Free Spoken Digit Dataset, 8 kHz, 10 classes",
            "CC BY-SA 4.0", "Jackson et al., Free Spoken Digit Dataset", "fsdd-spoken-digits")};
  std::sort(sets.begin(), sets.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return sets;
}

const char* variable(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? value : nullptr;
}

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

std::string how_to_get(const Dataset& set) {
  return set.files.empty() ? "it has no download: put its folder at $CAJAL_DATA/" + set.folder
                           : "run: cajal data get " + set.name;
}

}  // namespace

const std::vector<Dataset>& catalogue() {
  static const auto sets = all();
  return sets;
}

const Dataset& dataset(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& set : catalogue()) {
    if (set.name == name) return set;
    names.push_back(set.name);
  }
  fail("no dataset is called '{}'{}; cajal data list names them all", name,
       did_you_mean(name, names));
}

std::optional<int64_t> download_bytes(const Dataset& dataset) {
  int64_t total = 0;
  for (const auto& file : dataset.files) {
    if (file.bytes == 0) return std::nullopt;
    total += file.bytes;
  }
  return total;
}

fs::path cache_root() {
  // The XDG rules ignore a relative path.
  if (const char* cache = variable("XDG_CACHE_HOME"); cache && fs::path(cache).is_absolute())
    return fs::path(cache) / "cajal";
  const char* home = variable("HOME");
  require(home, "neither XDG_CACHE_HOME nor HOME is set, so there is no place for a cache");
  return fs::path(home) / ".cache" / "cajal";
}

fs::path cache_folder(const Dataset& dataset) { return cache_root() / "data" / dataset.name; }

std::vector<Place> places(const Dataset& dataset) {
  std::vector<Place> out;
  if (const char* root = variable("CAJAL_DATA"))
    if (auto folder = fs::path(root) / dataset.folder; is_folder(folder))
      out.push_back({folder, dataset.folder_holds});
  if (variable("XDG_CACHE_HOME") || variable("HOME"))
    if (auto folder = cache_folder(dataset); is_file(folder / kOriginFile))
      out.push_back({folder, "whole"});
  return out;
}

Place find_dataset(std::string_view name) {
  const auto& set = dataset(name);
  const auto here = places(set);
  require(!here.empty(), "{} is not on this machine; {}", set.name, how_to_get(set));
  return here.front();
}

fs::path find_file(std::string_view name, const std::vector<std::string>& files) {
  const auto& set = dataset(name);
  for (const auto& place : places(set))
    for (const auto& file : files)
      if (is_file(place.folder / file)) return place.folder / file;
  fail("{}: {} is not on this machine; {}", set.name, fmt::join(files, " or "), how_to_get(set));
}

}  // namespace cajal::data
