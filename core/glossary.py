"""The field's terms as this project uses them: a sentence, the formula, the source, the function that computes it.

Standard library only. A term that is older than any one paper has the textbook in which it is defined as it is meant
here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """term : as a heading writes it; text : one plain sentence or two; formula : LaTeX, without dollar signs

    source : "Author (year)", several joined by "; "; function : that computes it, a dotted name in core
    also : other names of the same thing
    """

    term: str
    text: str
    formula: str
    source: str
    function: str
    also: tuple[str, ...] = ()


MEASURING = (
    Entry(
        "Accuracy",
        "The share of images whose predicted class is the true one.",
        r"\frac{1}{n} \sum_{i=1}^{n} [\hat y_i = y_i]",
        "Goodfellow, Bengio & Courville (2016)",
        "core.measuring.evaluation.evaluate",
    ),
    Entry(
        "Percentage point",
        "The unit of a difference of two shares: from 93 % to 92 % it is 1 pp.",
        r"\Delta = 100 \, (a_\text{after} - a_\text{before}) \ \text{pp}",
        "Agresti (2013)",
        "core.measuring.evaluation.compare",
        ("pp",),
    ),
    Entry(
        "Confusion matrix",
        "How many images of each true class (row) are taken for which class (column); the diagonal is right.",
        r"C_{jk} = \left|\{ i : y_i = j,\ \hat y_i = k \}\right|",
        "Stehman (1997)",
        "core.measuring.evaluation.Evaluation",
    ),
    Entry(
        "Precision",
        "Of the images that are taken for a class, the share that belongs to it.",
        r"P_k = \frac{C_{kk}}{\sum_j C_{jk}}",
        "van Rijsbergen (1979)",
        "core.measuring.evaluation.Evaluation",
    ),
    Entry(
        "Recall",
        "Of the images of a class, the share that is taken for it.",
        r"R_k = \frac{C_{kk}}{\sum_j C_{kj}}",
        "van Rijsbergen (1979)",
        "core.measuring.evaluation.Evaluation",
    ),
    Entry(
        "F1-score",
        "The harmonic mean of precision and recall: high only where both are.",
        r"F_1 = \frac{2 P R}{P + R}",
        "van Rijsbergen (1979)",
        "core.measuring.evaluation.Evaluation",
        ("F1",),
    ),
    Entry(
        "Support",
        "How many images of a class the figures of a classification report are about.",
        r"n_k = \sum_j C_{kj}",
        "Pedregosa et al. (2011)",
        "core.measuring.evaluation.Evaluation",
    ),
    Entry(
        "Macro average",
        "The plain mean over the classes, each counted alike; the weighted average counts each class by its support.",
        r"\bar F_1 = \frac{1}{K} \sum_{k=1}^{K} F_{1,k}",
        "Pedregosa et al. (2011)",
        "core.measuring.evaluation.Evaluation",
        ("Weighted average",),
    ),
    Entry(
        "Cross entropy",
        "The loss that is trained with: how surprised the network is by the true class, in nats.",
        r"L = -\frac{1}{n} \sum_{i} \log p_i(y_i)",
        "Goodfellow, Bengio & Courville (2016)",
        "core.measuring.training.fit",
    ),
    Entry(
        "Label smoothing",
        "The target gives the true class 1 − ε and spreads ε over all classes, so that the network does not become "
        "overconfident; the loss then cannot fall to 0.",
        r"q(k) = (1 - \varepsilon)\,[k = y] + \varepsilon / K",
        "Szegedy et al. (2016)",
        "core.measuring.training.fit",
    ),
    Entry(
        "Most confident errors",
        "Wrong predictions in the order of the probability that the network gives its wrong class.",
        r"c_i = \max_k p_i(k), \quad \hat y_i \ne y_i",
        "Guo et al. (2017)",
        "core.measuring.evaluation.Evaluation",
        ("Confidence",),
    ),
    Entry(
        "Flip",
        "An image whose prediction changed between two networks: lost, gained, or wrong both times.",
        r"\hat y_i^\text{before} \ne \hat y_i^\text{after}",
        "Hooker et al. (2019)",
        "core.measuring.evaluation.flips",
        ("Changed predictions",),
    ),
    Entry(
        "McNemar test",
        "Whether two networks differ by more than chance on the same images: only those that one of them has right and "
        "the other wrong count, b lost and c gained.",
        r"p = \min\Big(1,\ 2 \sum_{i=0}^{\min(b, c)} \binom{b + c}{i} 2^{-(b + c)}\Big)",
        "McNemar (1947)",
        "core.measuring.evaluation.Comparison",
    ),
    Entry(
        "Paired 95 % interval",
        "Where the true difference of two networks lies, 95 times of 100, judged by the same n images.",
        r"\frac{c - b}{n} \pm 1.96\, \frac{\sqrt{b + c - (c - b)^2 / n}}{n}",
        "Agresti (2013)",
        "core.measuring.evaluation.Comparison",
        ("Interval",),
    ),
    Entry(
        "Latency",
        "The time that one image takes. Unstructured zeros and fewer bits do not shorten it here, as the arithmetic is "
        "float32: fewer channels and lower ranks do.",
        r"t = \operatorname{median}_r (t_r) / \text{batch}",
        "Reddi et al. (2020)",
        "core.measuring.evaluation.latency",
        ("Time per image",),
    ),
    Entry(
        "Multiply-accumulates",
        "The arithmetic of one image: every weight times the places at which it is used.",
        r"\text{MACs} = \sum_l m_l\, n_l\, p_l",
        "Sze et al. (2017)",
        "core.networks.models.costs_of",
        ("MACs",),
    ),
    Entry(
        "Validation and test split",
        "The 5,000 validation images are for choosing, the 10,000 test images for the verdict alone: a figure that "
        "was chosen by is too good.",
        r"D = D_\text{train} \,\dot\cup\, D_\text{val} \,\dot\cup\, D_\text{test}",
        "Hastie, Tibshirani & Friedman (2009)",
        "core.datasets.fashion_mnist.load",
        ("Validation", "Test"),
    ),
)

SIZES = (
    Entry(
        "Compression ratio",
        "Bytes of the baseline in float32 over bytes of the file.",
        r"\text{ratio} = \frac{\text{baseline bytes}}{\text{file bytes}}",
        "Han, Mao & Dally (2016)",
        "core.measuring.front.Point",
    ),
    Entry(
        "Parameters",
        "Stored weights and biases, zeros included. A layer of rank r stores r (m + n) weights instead of m n.",
        r"\sum_l r_l (m_l + n_l) + b_l",
        "Goodfellow, Bengio & Courville (2016)",
        "core.networks.stored.StoredNetwork",
    ),
    Entry(
        "Theoretical size",
        "The size that follows from counts alone: weights at their bits, biases in float32, no file around them.",
        r"\text{KB} = \frac{1}{8 \cdot 1024} \Big( \sum_l N_l\, b_l + 32\, B \Big)",
        "Han, Mao & Dally (2016)",
        "core.formats.footprint.model_size_kb",
        ("In closed form", "By bits alone"),
    ),
    Entry(
        "File size by layer",
        "The bytes of each layer in the file: quantized values, scales, biases, sparsity mask or index; at last the "
        "header. Their sum is the size of the file.",
        r"\text{bytes} = \sum_l \sum_\text{kind} s_{l,\text{kind}} + s_\text{header}",
        "Han, Mao & Dally (2016)",
        "core.formats.footprint.footprint",
        ("Ledger", "Header"),
    ),
    Entry(
        "Entropy coding",
        "Frequent values get short codes: a value of probability p costs −log₂ p bits, so that a zero among many zeros "
        "costs nearly nothing.",
        r"H = -\sum_v p(v) \log_2 p(v)",
        "Shannon (1948); Duda (2009)",
        "core.mathematics.coding.entropy",
        ("Entropy",),
    ),
    Entry(
        "Pareto front",
        "The networks that no other one beats in size and accuracy at once.",
        r"\{ a : \nexists\, b\ \ s_b \le s_a,\ \alpha_b \ge \alpha_a,\ (s_b, \alpha_b) \ne (s_a, \alpha_a) \}",
        "Deb et al. (2002)",
        "core.measuring.front.pareto",
    ),
    Entry(
        "Allowed accuracy loss",
        "How many points of accuracy a search may lose on the validation images.",
        r"a_\text{baseline} - a \le \delta",
        "He et al. (2018)",
        "core.measuring.front.Goal",
        ("Allowance",),
    ),
)

LOW_RANK = (
    Entry(
        "Singular values",
        "The strengths of the patterns of which a weight matrix is the sum, the strongest first (singular value "
        "decomposition, SVD).",
        r"W = \sum_i \sigma_i\, u_i v_i^\top, \quad \sigma_1 \ge \sigma_2 \ge \dots \ge 0",
        "Eckart & Young (1936)",
        "core.mathematics.low_rank.decompose",
        ("SVD", "Singular value decomposition"),
    ),
    Entry(
        "Low-rank factorization",
        "A layer is replaced by two of rank r, made of its r largest singular values.",
        r"W \approx W_r = (U_r \sqrt{\Sigma_r}) (\sqrt{\Sigma_r}\, V_r^\top)",
        "Denton et al. (2014)",
        "core.mathematics.low_rank.factorize",
        ("Low rank", "Rank"),
    ),
    Entry(
        "Energy",
        "The share of the squared singular values up to rank r (cumulative variance).",
        r"E(r) = \frac{\sum_{i \le r} \sigma_i^2}{\sum_i \sigma_i^2}",
        "Jolliffe (2002)",
        "core.mathematics.low_rank.cumulative_energy",
        ("Cumulative variance",),
    ),
    Entry(
        "Rank share",
        "The rank that keeps a given energy over the number of singular values.",
        r"\frac{r}{\min(m, n)}, \quad r = \min \{ r : E(r) \ge E \}",
        "Jolliffe (2002)",
        "core.mathematics.low_rank.rank_for_energy",
    ),
    Entry(
        "Break-even rank",
        "The largest rank at which two factors hold fewer numbers than the matrix; above it nothing is saved.",
        r"r\,(m + n) < m n",
        "Denton et al. (2014)",
        "core.mathematics.low_rank.break_even_rank",
        ("Break-even",),
    ),
    Entry(
        "Condition number",
        "The largest singular value over the smallest: near 1 all directions count alike, and none can be spared.",
        r"\kappa = \sigma_\text{max} / \sigma_\text{min}",
        "Golub & Van Loan (2013)",
        "core.mathematics.low_rank.condition_number",
    ),
    Entry(
        "Stable rank",
        "All energy in units of the strongest direction's.",
        r"\lVert W \rVert_F^2 / \sigma_\text{max}^2",
        "Rudelson & Vershynin (2007)",
        "core.mathematics.low_rank.stable_rank",
    ),
    Entry(
        "Effective rank",
        "How many equally strong directions would spread the energy as evenly.",
        r"\exp\Big( -\sum_i p_i \log p_i \Big), \quad p_i = \sigma_i^2 \big/ \textstyle\sum_j \sigma_j^2",
        "Roy & Vetterli (2007)",
        "core.mathematics.low_rank.effective_rank",
    ),
    Entry(
        "Relative reconstruction error",
        "How far the layer of rank r is from the trained one, relative to its size.",
        r"\frac{\lVert W - W_r \rVert_F}{\lVert W \rVert_F} = \sqrt{1 - E(r)}",
        "Eckart & Young (1936)",
        "core.mathematics.low_rank.reconstruct",
    ),
    Entry(
        "Low-rank objective",
        "What the factors are nearest to: the weight (SVD), or the layer's output on real inputs x (data-aware), which "
        "at the same bytes keeps far more accuracy.",
        r"\min_{\operatorname{rank} W_r = r} \lVert W - W_r \rVert_F^2 \quad\text{or}\quad "
        r"\min_{\operatorname{rank} W_r = r} \mathbb{E}\, \lVert W x - W_r x \rVert^2",
        "Zhang et al. (2015); Chen et al. (2021)",
        "core.mathematics.low_rank.decompose_whitened",
        ("Data-aware",),
    ),
    Entry(
        "Random matrix",
        "What the singular values of a matrix of independent random numbers of the same shape and size would be.",
        r"p(x) = \frac{\sqrt{(b - x)(x - a)}}{2 \pi q x}, \quad a, b = (1 \mp \sqrt q)^2",
        "Marchenko & Pastur (1967)",
        "core.mathematics.low_rank.random_singular_values",
    ),
)

PRUNING = (
    Entry(
        "Sparsity",
        "The share of stored weights that pruning set to zero; biases are never pruned and never counted.",
        r"s = \frac{\#\{ w : m_w = 0 \}}{n}",
        "Han et al. (2015)",
        "core.techniques.pruning.check_sparsity",
    ),
    Entry(
        "Pruning",
        "The weights with the smallest scores are set to zero and stay so (unstructured pruning).",
        r"\hat w = m \odot w, \quad \#\{ m = 0 \} = \operatorname{round}(s\, n)",
        "Han et al. (2015)",
        "core.techniques.pruning.apply_pruning",
        ("Sparsity mask", "Unstructured pruning"),
    ),
    Entry(
        "Pruning criterion",
        "The score by which weights are pruned: magnitude, LAMP or activation-aware (Wanda).",
        r"\text{prune } w \iff \operatorname{score}(w) \text{ among the } \operatorname{round}(s\,n) \text{ smallest}",
        "Han et al. (2015)",
        "core.mathematics.pruning.keep_mask",
    ),
    Entry(
        "Magnitude",
        "Pruning criterion: the absolute value of the weight.",
        r"\operatorname{score}(w) = |w|",
        "Han et al. (2015)",
        "core.mathematics.pruning.magnitude",
    ),
    Entry(
        "LAMP",
        "Pruning criterion: the squared weight over the sum of those of its layer that are not smaller, so that no "
        "layer is emptied.",
        r"\operatorname{score}(w) = \frac{w^2}{\sum_{u^2 \ge w^2} u^2}",
        "Lee et al. (2021)",
        "core.mathematics.pruning.lamp",
    ),
    Entry(
        "Activation-aware pruning",
        "Pruning criterion (Wanda): the weight's magnitude times the root mean square of the input it meets.",
        r"\operatorname{score}(w) = |w| \sqrt{\mathbb{E}[x^2]}",
        "Sun et al. (2024)",
        "core.mathematics.pruning.activation",
        ("Wanda", "Activation-aware (Wanda)"),
    ),
    Entry(
        "Scope",
        "Where scores are compared: over all layers (global, one threshold), or in each layer (layer-wise, equal "
        "shares).",
        r"\#\{ m = 0 \} = \operatorname{round}(s\, n) \ \text{over all layers, or in each}",
        "Blalock et al. (2020)",
        "core.mathematics.pruning.keep_masks",
        ("Global", "Layer-wise"),
    ),
    Entry(
        "One-shot pruning",
        "All weights go at once, and nothing is trained afterwards, or only once.",
        r"s_0 = 0 \to s_1 = s",
        "Blalock et al. (2020)",
        "core.studies.tuning.largest_one_shot",
        ("One-shot",),
    ),
    Entry(
        "Iterative pruning",
        "A little is pruned, the network trains, and so on (gradual pruning): the sparsity rises fast at first, slowly "
        "at the end.",
        r"s(t) = s \,\big( 1 - (1 - t)^3 \big), \quad t \in [0, 1]",
        "Zhu & Gupta (2017)",
        "core.networks.compression.prune_gradually",
        ("Gradual pruning", "Iterative (gradual) pruning"),
    ),
    Entry(
        "Structured pruning",
        "Whole channels are removed with the columns that read them: the network becomes smaller and faster, without "
        "zeros.",
        r"W_l \in \mathbb{R}^{k \times n}, \quad W_{l+1} \in \mathbb{R}^{m \times k}, \quad k < m_l",
        "Li et al. (2017)",
        "core.networks.narrowing.remove_channels",
        ("Channel pruning", "Structured (channel) pruning"),
    ),
    Entry(
        "Channel criterion",
        "The score by which channels are removed: the mean absolute weight (L1 norm), or the mean output on real "
        "images (mean activation).",
        r"\operatorname{score}(c) = \tfrac{1}{n} \textstyle\sum_j |w_{cj}| \quad\text{or}\quad \mathbb{E}[a_c]",
        "Li et al. (2017)",
        "core.networks.narrowing.kept_channels",
        ("L1 norm", "Mean activation"),
    ),
    Entry(
        "Layer sensitivity",
        "What the whole network loses where one layer alone is pruned or quantized.",
        r"\Delta_l(s) = a(s_l = s,\ s_{k \ne l} = 0) - a",
        "Han et al. (2015)",
        "core.studies.tuning.sensitivity",
        ("Sensitivity",),
    ),
)

QUANTIZATION = (
    Entry(
        "Quantization",
        "Numbers are put on a grid of integers q with a scale s and a zero point z; the file stores the quantized "
        "values and the scale.",
        r"q = \operatorname{clamp}(\operatorname{round}(x / s) + z), \quad \hat x = s\,(q - z)",
        "Jacob et al. (2018)",
        "core.mathematics.quantization.linear_quantize",
        ("Quantized values", "Scale"),
    ),
    Entry(
        "Symmetric and asymmetric quantization",
        "Symmetric: the grid lies around 0, and z = 0. Asymmetric (affine): it reaches from the smallest to the "
        "largest number, and z is the integer that stands for 0.",
        r"s = \frac{\max |x|}{2^{b-1} - 1} \quad\text{or}\quad s = \frac{\max x - \min x}{2^b - 1},\ "
        r"z = -\operatorname{round}(\min x / s)",
        "Jacob et al. (2018)",
        "core.mathematics.quantization.scale_and_zero_point",
        ("Symmetric", "Asymmetric", "Affine", "Zero point"),
    ),
    Entry(
        "Granularity",
        "How many weights share a scale: those of an output channel (per channel), or all of a tensor (per tensor).",
        r"\hat W_{cj} = s_c\, (q_{cj} - z_c)",
        "Krishnamoorthi (2018)",
        "core.mathematics.quantization.weight_grid",
        ("Per channel", "Per tensor"),
    ),
    Entry(
        "Clipping range",
        "Where the grid ends: at the largest number (min-max), or where the mean squared error is least (MSE-optimal), "
        "which clips a few large numbers and rounds all others more finely.",
        r"\min_s\ \mathbb{E}\, (x - \hat x_s)^2",
        "Banner et al. (2019)",
        "core.mathematics.quantization.weight_grid",
        ("Min-max", "MSE-optimal", "Clipping"),
    ),
    Entry(
        "Calibration",
        "The ranges of the activations are measured on 2,048 training images before they are quantized.",
        r"s = \max_{x \in D_\text{cal}} |a(x)| \,/\, (2^b - 1)",
        "Krishnamoorthi (2018)",
        "core.mathematics.quantization.activation_scale",
    ),
    Entry(
        "Bias correction",
        "The mean change that rounding makes to each output is subtracted from its bias.",
        r"b \leftarrow b + (W - \hat W)\, \mathbb{E}[x]",
        "Nagel et al. (2019)",
        "core.mathematics.quantization.bias_correction",
    ),
    Entry(
        "GPTQ",
        "Weights are rounded input by input, and those that are still free make up for the error, so that the layer's "
        "output on real inputs changes least.",
        r"\min_{\hat W} \mathbb{E}\, \lVert W x - \hat W x \rVert^2",
        "Frantar et al. (2023)",
        "core.mathematics.quantization.gptq",
    ),
    Entry(
        "Post-training quantization",
        "Quantization (PTQ) of a trained network without any training afterwards.",
        r"\hat W = Q(W), \quad \text{no gradient step}",
        "Nagel et al. (2021)",
        "core.studies.assignment.ladder",
        ("PTQ",),
    ),
    Entry(
        "Quantization-aware training",
        "Training (QAT) in which every forward pass sees the rounded numbers.",
        r"\min_W L\big( Q(W) \big)",
        "Jacob et al. (2018)",
        "core.techniques.quantization.quantize_model",
        ("QAT",),
    ),
    Entry(
        "Straight-through estimator",
        "The gradient passes the rounding as if it were not there, inside the range, and is 0 where x is clipped.",
        r"\frac{\partial \hat x}{\partial x} := [\, q_\text{min} \le x / s \le q_\text{max} \,]",
        "Bengio, Léonard & Courville (2013)",
        "core.mathematics.quantization.fake_quantize",
        ("STE",),
    ),
    Entry(
        "LSQ",
        "The steps of all grids are learned with the weights (learned step size quantization).",
        r"\frac{\partial \hat x}{\partial s} := \operatorname{round}(x / s) - x / s, \quad "
        r"g = \frac{1}{\sqrt{n\, q_\text{max}}}",
        "Esser et al. (2020)",
        "core.mathematics.quantization.learned_step",
        ("Learned step size",),
    ),
    Entry(
        "Mixed precision",
        "Every layer has bits of its own: at each step the layer loses a bit whose loss rises least per byte saved.",
        r"\arg\min_l \frac{L(b_l - 1) - L}{\Delta \text{bytes}_l}",
        "Wang et al. (2019)",
        "core.studies.tuning.allocate_bits",
    ),
)

TRAINING = (
    Entry(
        "Fine-tuning",
        "Training after compression (recovery): zeros stay zero, factors stay factors, grids stay grids.",
        r"\min_\theta L(\theta), \quad \theta \text{ compressed}",
        "Han et al. (2015)",
        "core.measuring.training.recover",
        ("Recovery", "Fine-tuning (recovery)"),
    ),
    Entry(
        "Control",
        "The uncompressed network trained in the same way: what it gains, too, is no merit of the compression.",
        r"\Delta = a_\text{compressed, trained} - a_\text{control, trained}",
        "Blalock et al. (2020)",
        "core.studies.reproduce.low_rank",
    ),
    Entry(
        "Knowledge distillation",
        "Half of the loss is the distance to the baseline's own predictions, softened by a temperature T.",
        r"L = \tfrac12 \big( L_\text{labels} + T^2\, \mathrm{KL}(p_T^\text{baseline} \,\|\, p_T) \big)",
        "Hinton, Vinyals & Dean (2015)",
        "core.measuring.training.teach",
        ("Distillation",),
    ),
    Entry(
        "Peak learning rate",
        "The highest step size of a one-cycle schedule: up in a quarter of the steps, then down to almost nothing.",
        r"\theta \leftarrow \theta - \eta_t\, \nabla L, \quad \eta = \max_t \eta_t",
        "Smith & Topin (2019)",
        "core.measuring.training.fit",
        ("Learning rate", "One-cycle"),
    ),
    Entry(
        "Batch normalization folding",
        "After training the normalization is merged into the weights before it: the same function, fewer operations.",
        r"W' = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}\, W, \quad "
        r"b' = \frac{\gamma\,(b - \mu)}{\sqrt{\sigma^2 + \epsilon}} + \beta",
        "Jacob et al. (2018)",
        "core.networks.folding.fold_batch_norm",
    ),
)

TOPICS: dict[str, tuple[Entry, ...]] = {
    "Measuring": MEASURING,
    "Sizes and searches": SIZES,
    "Low rank": LOW_RANK,
    "Pruning": PRUNING,
    "Quantization": QUANTIZATION,
    "Training": TRAINING,
}
"""All terms by topic, in the order of the pages."""

ENTRIES: tuple[Entry, ...] = tuple(entry for topic in TOPICS.values() for entry in topic)

_NAMES = {name.lower(): entry for entry in ENTRIES for name in (entry.term, *entry.also)}


def find(name: str) -> Entry:
    """The entry of a term, by one of its names, whatever the capitals. Raises KeyError where there is none."""
    return _NAMES[name.lower()]


def matching(words: str) -> dict[str, list[Entry]]:
    """By topic, the entries that hold all these words in their names, their text or their source, the one of that name
    first; topics that have none are left out."""
    wanted, named = words.lower().split(), _NAMES.get(words.lower().strip())

    def holds(entry: Entry) -> bool:
        text = " ".join((entry.term, *entry.also, entry.text, entry.source)).lower()
        return all(word in text for word in wanted)

    found = {topic: [entry for entry in entries if holds(entry)] for topic, entries in TOPICS.items()}
    held = {topic: sorted(own, key=lambda entry: entry is not named) for topic, own in found.items() if own}
    return dict(sorted(held.items(), key=lambda topic: named not in topic[1]))
