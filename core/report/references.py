"""What the report relies on: each source as the text names it, and in full. A report lists those that it names."""

from collections.abc import Iterable

from core.document.blocks import Block, Heading, Listing, Paragraph, Table

SOURCES = {
    "course's low-rank report": "Low-rank report of the course: an MLP on Fashion-MNIST, compressed by the SVD.",
    "Chen et al. 2021": "Chen, P., Yu, H.-F., Dhillon, I., Hsieh, C.-J. (2021). DRONE: Data-aware low-rank compression "
    "for large NLP models. NeurIPS.",
    "Denton et al. 2014": "Denton, E., Zaremba, W., Bruna, J., LeCun, Y., Fergus, R. (2014). Exploiting linear "
    "structure within convolutional networks for efficient evaluation. NeurIPS.",
    "Eckart & Young 1936": "Eckart, C., Young, G. (1936). The approximation of one matrix by another of lower rank. "
    "Psychometrika 1.",
    "Esser et al. 2020": "Esser, S., McKinstry, J., Bablani, D., Appuswamy, R., Modha, D. (2020). Learned step size "
    "quantization. ICLR.",
    "Frantar et al. 2023": "Frantar, E., Ashkboos, S., Hoefler, T., Alistarh, D. (2023). GPTQ: Accurate post-training "
    "quantization for generative pre-trained transformers. ICLR.",
    "Han et al. 2015": "Han, S., Pool, J., Tran, J., Dally, W. (2015). Learning both weights and connections for "
    "efficient neural networks. NeurIPS.",
    "Han et al. 2016": "Han, S., Mao, H., Dally, W. (2016). Deep compression: Compressing deep neural networks with "
    "pruning, trained quantization and Huffman coding. ICLR.",
    "Hinton et al. 2015": "Hinton, G., Vinyals, O., Dean, J. (2015). Distilling the knowledge in a neural network. "
    "NIPS Deep Learning Workshop.",
    "Jacob et al. 2018": "Jacob, B., Kligys, S., Chen, B., Zhu, M., Tang, M., Howard, A., Adam, H., Kalenichenko, D. "
    "(2018). Quantization and training of neural networks for efficient integer-arithmetic-only inference. CVPR.",
    "Lee et al. 2021": "Lee, J., Park, S., Mo, S., Ahn, S., Shin, J. (2021). Layer-adaptive sparsity for the "
    "magnitude-based pruning. ICLR.",
    "Li et al. 2017": "Li, H., Kadav, A., Durdanovic, I., Samet, H., Graf, H. P. (2017). Pruning filters for efficient "
    "ConvNets. ICLR.",
    "Lloyd 1982": "Lloyd, S. (1982). Least squares quantization in PCM. IEEE Transactions on Information Theory 28.",
    "McNemar 1947": "McNemar, Q. (1947). Note on the sampling error of the difference between correlated proportions "
    "or percentages. Psychometrika 12.",
    "Nagel et al. 2019": "Nagel, M., van Baalen, M., Blankevoort, T., Welling, M. (2019). Data-free quantization "
    "through weight equalization and bias correction. ICCV.",
    "Renda et al. 2020": "Renda, A., Frankle, J., Carbin, M. (2020). Comparing rewinding and fine-tuning in neural "
    "network pruning. ICLR.",
    "Sun et al. 2024": "Sun, M., Liu, Z., Bair, A., Kolter, J. Z. (2024). A simple and effective pruning approach for "
    "large language models. ICLR.",
    "Wang et al. 2024": "Wang, X., Zheng, Y., Wan, Z., Zhang, M. (2024). SVD-LLM: Truncation-aware singular value "
    "decomposition for large language model compression. arXiv:2403.07378.",
    "Xiao et al. 2017": "Xiao, H., Rasul, K., Vollgraf, R. (2017). Fashion-MNIST: a novel image dataset for "
    "benchmarking machine learning algorithms. arXiv:1708.07747.",
    "Zhang et al. 2015": "Zhang, X., Zou, J., He, K., Sun, J. (2015). Accelerating very deep convolutional networks "
    "for classification and detection. IEEE TPAMI 38.",
    "Zhu & Gupta 2017": "Zhu, M., Gupta, S. (2017). To prune, or not to prune: exploring the efficacy of pruning for "
    "model compression. arXiv:1710.01878.",
}
"""As the text names it -> in full."""


def references(blocks: Iterable[Block]) -> list[Block]:
    """Those that these blocks name."""
    said = "\n".join(_text(block) for block in blocks)
    return [Listing(tuple(full for short, full in SOURCES.items() if short in said))]


def _text(block: Block) -> str:
    match block:
        case Paragraph(text) | Heading(text, _):
            return text
        case Table():
            return "\n".join([block.caption, *(cell for row in block.rows for cell in row)])
        case _:
            return ""
