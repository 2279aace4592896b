"""What the advisor's reasons rest on. A reason without a source is a rule of thumb, and says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """`where` is a venue or an arXiv number."""

    name: str
    where: str

    def __str__(self) -> str:
        return f"{self.name} ({self.where})"


FEW_SHOT = Source("Brown et al., Language Models are Few-Shot Learners", "NeurIPS 2020, arXiv 2005.14165")
CHEAPER = Source(
    "Liu et al., Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
    "NeurIPS 2022, arXiv 2205.05638",
)
RETRIEVAL = Source(
    "Lewis et al., Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks", "NeurIPS 2020, arXiv 2005.11401"
)
RETRIEVAL_OR_TUNING = Source(
    "Ovadia et al., Fine-Tuning or Retrieval? Comparing Knowledge Injection in LLMs", "EMNLP 2024, arXiv 2312.05934"
)
NEW_FACTS = Source(
    "Gekhman et al., Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?",
    "EMNLP 2024, arXiv 2405.05904",
)
BOTH = Source("Zhang et al., RAFT: Adapting Language Model to Domain Specific RAG", "COLM 2024, arXiv 2403.10131")
FEW_EXAMPLES = Source("Zhou et al., LIMA: Less Is More for Alignment", "NeurIPS 2023, arXiv 2305.11206")
OPENAI = Source("OpenAI, guide to supervised fine-tuning", "platform documentation")
PREFERENCES = Source("Rafailov et al., Direct Preference Optimization", "NeurIPS 2023, arXiv 2305.18290")
DOMAIN = Source("Gururangan et al., Don't Stop Pretraining", "ACL 2020, arXiv 2004.10964")
REPLAY = Source(
    "Ibrahim et al., Simple and Scalable Strategies to Continually Pre-train Large Language Models",
    "TMLR 2024, arXiv 2403.08763",
)
FORGETS_LESS = Source("Biderman et al., LoRA Learns Less and Forgets Less", "TMLR 2024, arXiv 2405.09673")
FROM_SCRATCH = Source(
    "Hoffmann et al., Training Compute-Optimal Large Language Models", "NeurIPS 2022, arXiv 2203.15556"
)
