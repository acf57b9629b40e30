"""Makes a small data set of question-answer dialogues by rules, in Chinese and English.

Plain texts, too: the answers, one after the other. Deterministic: the same on every machine and
Python version (only ``random.random`` is used, which Python promises not to change). Standard
library only. Called by ``sources`` when the cache of ``data.py`` is empty.

What it is good for: a model of 100 000 parameters learns it in minutes on one core, and
hyperparameters make a visible difference. What it is not: language.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

Message = dict[str, str]
Dialogue = list[Message]
T = TypeVar("T")

N_DIALOGUES = 2400
MAX_TURNS = 2
N_TEXTS = 1200
MAX_STATEMENTS = 12

CAPITALS = (
    ("China", "Beijing", "中国", "北京"),
    ("France", "Paris", "法国", "巴黎"),
    ("Japan", "Tokyo", "日本", "东京"),
    ("Egypt", "Cairo", "埃及", "开罗"),
    ("Italy", "Rome", "意大利", "罗马"),
    ("Spain", "Madrid", "西班牙", "马德里"),
    ("Kenya", "Nairobi", "肯尼亚", "内罗毕"),
    ("Peru", "Lima", "秘鲁", "利马"),
    ("Russia", "Moscow", "俄罗斯", "莫斯科"),
    ("Greece", "Athens", "希腊", "雅典"),
)
OPPOSITES = (
    ("hot", "cold", "热", "冷"),
    ("big", "small", "大", "小"),
    ("fast", "slow", "快", "慢"),
    ("old", "new", "旧", "新"),
    ("high", "low", "高", "低"),
    ("long", "short", "长", "短"),
    ("light", "dark", "亮", "暗"),
    ("early", "late", "早", "晚"),
)
DAYS_EN = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAYS_ZH = ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日")
THINGS = (
    ("apple", "苹果", "个"),  # with the Chinese measure word
    ("book", "书", "本"),
    ("cup", "杯子", "个"),
    ("key", "钥匙", "把"),
    ("lamp", "灯", "盏"),
    ("shoe", "鞋", "只"),
)
NAMES = (("Ann", "小安"), ("Ben", "小本"), ("Li", "小李"), ("Wang", "小王"), ("Zoe", "小周"))


class Dice:
    """Random choices that are the same in every version of Python."""

    def __init__(self, seed: int):
        """Begin the stream of ``seed``."""
        self._random = random.Random(seed)

    def below(self, n: int) -> int:
        """Draw from 0 to ``n - 1``."""
        return int(self._random.random() * n)

    def between(self, low: int, high: int) -> int:
        """Draw from ``low`` to ``high``, both included."""
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[T]) -> T:
        """Draw one of ``items``."""
        return items[self.below(len(items))]


def make_dialogues(n_dialogues: int = N_DIALOGUES, seed: int = 0) -> list[Dialogue]:
    """Make different dialogues of one or two questions, half Chinese and half English."""
    dice = Dice(seed)
    dialogues: list[Dialogue] = []
    seen: set[str] = set()
    while len(dialogues) < n_dialogues:
        is_chinese = len(dialogues) % 2 == 0
        dialogue: Dialogue = []
        for _ in range(dice.between(1, MAX_TURNS)):
            question, answer = dice.pick(_RULES)(dice, is_chinese)
            dialogue.append({"role": "user", "content": question})
            dialogue.append({"role": "assistant", "content": answer})
        if (text := repr(dialogue)) not in seen:
            seen.add(text)
            dialogues.append(dialogue)
    return dialogues


def make_texts(n_texts: int = N_TEXTS, seed: int = 0) -> list[str]:
    """Make different plain texts of statements, half Chinese and half English."""
    dice = Dice(seed)
    texts: list[str] = []
    seen: set[str] = set()
    while len(texts) < n_texts:
        is_chinese = len(texts) % 2 == 0
        n_statements = dice.between(2, MAX_STATEMENTS)
        statements = [dice.pick(_RULES)(dice, is_chinese)[1] for _ in range(n_statements)]
        text = ("" if is_chinese else " ").join(statements)
        if text not in seen:
            seen.add(text)
            texts.append(text)
    return texts


def _add(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    a, b = dice.between(0, 20), dice.between(0, 20)
    if is_chinese:
        return dice.pick((f"{a}加{b}等于多少？", f"请算一算：{a}加{b}。")), f"{a}加{b}等于{a + b}。"
    question = dice.pick((f"What is {a} plus {b}?", f"Please add {a} and {b}."))
    return question, f"{a} plus {b} is {a + b}."


def _compare(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    a = dice.between(0, 99)
    b = (a + dice.between(1, 99)) % 100
    if is_chinese:
        return f"{a}和{b}哪个大？", f"{max(a, b)}比{min(a, b)}大。"
    return f"Which is larger, {a} or {b}?", f"{max(a, b)} is larger than {min(a, b)}."


def _capital(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    country, city, country_zh, city_zh = dice.pick(CAPITALS)
    if is_chinese:
        question = dice.pick((f"{country_zh}的首都是哪里？", f"哪座城市是{country_zh}的首都？"))
        return question, f"{country_zh}的首都是{city_zh}。"
    question = dice.pick((f"What is the capital of {country}?", f"Name the capital of {country}."))
    return question, f"The capital of {country} is {city}."


def _opposite(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    left, right, left_zh, right_zh = dice.pick(OPPOSITES)
    if dice.below(2):
        left, right, left_zh, right_zh = right, left, right_zh, left_zh
    if is_chinese:
        return f"“{left_zh}”的反义词是什么？", f"“{left_zh}”的反义词是“{right_zh}”。"
    return f"What is the opposite of {left}?", f"The opposite of {left} is {right}."


def _weekday(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    day, later = dice.below(7), dice.between(1, 9)
    end = (day + later) % 7
    if is_chinese:
        return f"今天是{DAYS_ZH[day]}，{later}天后是星期几？", f"{later}天后是{DAYS_ZH[end]}。"
    question = f"Today is {DAYS_EN[day]}. What day is it in {later} days?"
    return question, f"In {later} days it is {DAYS_EN[end]}."


def _count(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    name, name_zh = dice.pick(NAMES)
    thing, thing_zh, measure = dice.pick(THINGS)
    had, lost = dice.between(5, 20), dice.between(1, 5)
    left = had - lost
    if is_chinese:
        question = f"{name_zh}有{had}{measure}{thing_zh}，丢了{lost}{measure}，还剩几{measure}？"
        return question, f"{name_zh}还剩{left}{measure}{thing_zh}。"
    question = f"{name} has {had} {thing}s and loses {lost}. How many are left?"
    return question, f"{name} has {left} {thing}{'' if left == 1 else 's'} left."


def _translate(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    english, chinese = dice.pick(
        (
            *((thing[0], thing[1]) for thing in THINGS),
            *((capital[0], capital[2]) for capital in CAPITALS),
            *((pair[0], pair[2]) for pair in OPPOSITES),
        )
    )
    if is_chinese:
        return f"“{chinese}”用英语怎么说？", f"“{chinese}”的英语是 {english}。"
    return f"How do you say {english} in Chinese?", f"In Chinese, {english} is {chinese}."


_RULES: tuple[Callable[[Dice, bool], tuple[str, str]], ...] = (
    _add,
    _compare,
    _capital,
    _opposite,
    _weekday,
    _count,
    _translate,
)
