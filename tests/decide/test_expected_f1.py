"""The expected-F1 lists against brute force, a second algorithm, simulation and their invariants."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from releve.decide import expected_f1
from releve.decide.blocks import best_first
from releve.decide.expected_f1 import expected_f1_sets, expected_f1_sizes, expected_f1_value, num_nodes
from releve.errors import TableError


def all_expected_f1(probs):
    """Expected F1 of every subset, by the sum over all outcomes."""
    outcomes = np.array(list(itertools.product([0, 1], repeat=len(probs))))
    weight = np.where(outcomes, probs, 1 - probs).prod(axis=1)
    size = outcomes.sum(axis=1)
    both = size[:, None] + size[None, :]
    f1 = np.divide(2 * (outcomes @ outcomes.T), both, out=np.ones(both.shape), where=both > 0)
    return {tuple(np.flatnonzero(chosen)): float(f1[i] @ weight) for i, chosen in enumerate(outcomes)}


def dynamic_programme(probs, num_best):
    """Expected F1 of the k best by the textbook sum over the two Poisson-binomial distributions."""

    def pmf(p):
        out = np.ones(1)
        for x in p:
            out = np.convolve(out, [1 - x, x])
        return out

    ordered = np.sort(probs)[::-1]
    values = []
    for k in range(1, num_best + 1):
        head, tail = pmf(ordered[:k]), pmf(ordered[k:])
        a, b = np.arange(k + 1)[:, None], np.arange(len(tail))
        values.append(head @ (2 * a / (k + a + b)) @ tail)
    return np.array(values)


def check_against_brute_force(probs):
    brute = all_expected_f1(probs)
    chosen = tuple(expected_f1_sets(probs[None]).row(0))
    best = max(brute.values())
    assert brute[chosen] >= best - 2e-10
    shortest = min(len(listed) for listed, value in brute.items() if value >= best - 1e-13)
    assert len(chosen) <= shortest
    assert expected_f1_value(probs, list(chosen)) == pytest.approx(brute[chosen], abs=1e-12)


def test_random_lists_equal_the_best_of_all_subsets():
    rng = np.random.default_rng(0)
    for _ in range(120):
        check_against_brute_force(rng.random(rng.integers(1, 9)) ** rng.choice([0.2, 1, 3, 8]))
    check_against_brute_force(rng.random(10))


@pytest.mark.parametrize(
    "probs",
    [[0.0], [1.0], [1e-300], [0.3], [1.0] * 6, [0.0] * 6, [0.5] * 8, [1e-9] * 7, [1.0, 1.0, 0.0, 0.0],
     [1.0, 0.5, 0.5, 1e-6], [0.9] + [0.1] * 8, [1 - 1e-12, 1e-12, 0.5], [0.4, 0.4, 0.4, 0.2, 0.2, 0.2]],
)  # fmt: skip
def test_awkward_lists_equal_the_best_of_all_subsets(probs):
    check_against_brute_force(np.array(probs))


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, st.integers(1, 7), elements=st.floats(0, 1)))
def test_any_probabilities_give_the_best_of_all_subsets(probs):
    check_against_brute_force(probs)


def test_the_value_of_any_set_equals_brute_force():
    probs = np.array([0.9, 0.05, 0.4, 1.0, 0.0, 0.31])
    for listed, value in all_expected_f1(probs).items():
        assert expected_f1_value(probs, list(listed)) == pytest.approx(value, abs=1e-13)


@pytest.mark.parametrize("power", [1, 4, 30])
def test_large_lists_equal_the_dynamic_programme(power):
    """400 species reach the tail's power sums and, at power 1, a list longer than the first candidates."""
    probs = np.random.default_rng(power).random(400) ** power
    reference = dynamic_programme(probs, 400)
    size = expected_f1_sets(probs[None]).lengths()[0]
    assert size == reference.argmax() + 1
    for k in (1, 7, 64, 65, 200, 400):
        assert expected_f1_value(probs, k) == pytest.approx(reference[k - 1], abs=1e-11)


def test_prefix_values_with_a_tail_equal_the_dynamic_programme():
    probs = np.sort(np.random.default_rng(3).random((2, 300)) ** 12, axis=1)[:, ::-1].copy()
    blocks = torch.from_numpy(probs)
    columns = torch.arange(64).expand(2, 64)
    powers = expected_f1._power_sums(blocks, columns, blocks[:, :64])
    values = expected_f1._prefix_values(blocks[:, :64], powers, 300)
    for i in range(2):
        np.testing.assert_allclose(values[i], dynamic_programme(probs[i], 64), atol=2e-11)


def test_simulated_plots_confirm_the_value_and_no_neighbouring_length_beats_it():
    rng = np.random.default_rng(1)
    probs = rng.random(3000) ** 150
    chosen = expected_f1_sets(probs[None]).row(0)
    plots = rng.random((20_000, 3000), dtype=np.float32) < probs
    simulated = 2 * plots[:, chosen].sum(axis=1) / (len(chosen) + plots.sum(axis=1))
    assert expected_f1_value(probs, chosen) == pytest.approx(simulated.mean(), abs=4 * simulated.std() / 141)
    best = expected_f1_value(probs, len(chosen))
    assert best >= expected_f1_value(probs, len(chosen) - 1)
    assert best >= expected_f1_value(probs, len(chosen) + 1)


def test_more_nodes_than_the_bound_asks_for_change_nothing(monkeypatch):
    probs = np.random.default_rng(2).random((1, 2000)) ** np.array([[0.5], [3], [100]])
    for row in probs:
        value = expected_f1_value(row, 100)
        with monkeypatch.context() as patch:
            patch.setattr(expected_f1, "num_nodes", lambda *sizes: num_nodes(*sizes) + 64)
            assert expected_f1_value(row, 100) == pytest.approx(value, abs=1e-11)


def test_the_order_of_species_and_of_surveys_does_not_matter():
    rng = np.random.default_rng(4)
    probs = rng.random((40, 300)) ** rng.choice([1, 5, 40], size=(40, 1))
    lists, order = expected_f1_sets(probs), rng.permutation(300)
    shuffled = expected_f1_sets(probs[::-1][:, order])
    for i in range(40):
        assert set(order[shuffled.row(39 - i)]) == set(lists.row(i))


def test_the_size_of_blocks_does_not_matter(monkeypatch):
    probs = np.random.default_rng(5).random((30, 200)) ** 6
    lists = expected_f1_sets(probs)
    monkeypatch.setattr("releve.decide.blocks.BLOCK_CELLS", 450)
    monkeypatch.setattr(expected_f1, "WORK_CELLS", 5000)
    again = expected_f1_sets(probs)
    np.testing.assert_array_equal(lists.indptr, again.indptr)
    np.testing.assert_array_equal(lists.indices, again.indices)


def test_equal_species_are_taken_by_index():
    probs = np.full((3, 500), 0.001)
    probs[:, 400] = 0.9
    probs[1, 100:300] = 0.2
    assert expected_f1_sets(probs).row(0).tolist() == [400]
    assert best_first(torch.from_numpy(probs), 3)[1].tolist() == [[400, 0, 1], [400, 100, 101], [400, 0, 1]]


def test_sure_and_impossible_species_make_whole_and_shortest_lists():
    probs = np.vstack([np.full(100, 0.6), np.zeros(100)])
    assert expected_f1_sets(probs).lengths().tolist() == [100, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_tensors_and_arrays_of_any_precision_give_the_same_lists(dtype):
    probs = (torch.rand(20, 90, generator=torch.Generator().manual_seed(0)) ** 5).to(dtype)
    expected = expected_f1_sets(probs.double())
    np.testing.assert_array_equal(expected_f1_sets(probs).indices, expected.indices)
    np.testing.assert_array_equal(expected_f1_sets(probs.numpy()).indices, expected.indices)


def test_read_only_memory_maps_and_empty_tables_are_accepted(tmp_path):
    np.save(tmp_path / "probs.npy", np.array([[0.9, 0.1]], dtype=np.float32))
    mapped = np.load(tmp_path / "probs.npy", mmap_mode="r")
    assert expected_f1_sets(mapped).row(0).tolist() == [0]
    assert expected_f1_sets(np.empty((0, 5))).num_surveys == 0


def test_the_number_of_threads_is_left_as_it_was():
    before = torch.get_num_threads()
    with pytest.raises(TableError):
        expected_f1_sets(np.array([[2.0]]))
    assert torch.get_num_threads() == before


def test_bad_probabilities_are_counted():
    probs = np.array([[0.5, np.nan, 1.5], [-0.1, 0.2, np.nan]])
    with pytest.raises(TableError, match="2 NaN and 2 values outside 0 to 1 among 2 x 3"):
        expected_f1_sets(probs)
    with pytest.raises(TableError, match="shape"):
        expected_f1_sets(np.zeros(3))


def test_an_empty_list_is_worth_the_chance_that_nothing_grows():
    assert expected_f1_value(np.array([0.0]), []) == 1.0
    assert expected_f1_value(np.array([0.5, 0.2]), 0) == pytest.approx(0.4)


def test_the_list_of_a_single_species_is_empty_where_it_is_more_likely_absent():
    probs = np.array([[0.51], [0.5], [0.49], [0.0]])
    assert expected_f1_sets(probs).lengths().tolist() == [1, 0, 0, 0]


def test_no_list_is_empty_where_many_rare_species_make_a_species_sure():
    """400 species of .01 each: an empty plot has a chance of .018, the best list an expected F1 above that."""
    probs = np.full((1, 400), 0.01)
    assert expected_f1_value(probs[0], 400) > expected_f1_value(probs[0], 0)
    assert len(expected_f1_sets(probs).row(0)) > 0


def sizes_of(probs, least=0.01):
    """Lengths of the lists from the species of ``least`` or more and four power sums, as a map has them."""
    order = np.argsort(-probs, axis=1, kind="stable")
    best = np.take_along_axis(probs, order, axis=1)
    counts = (best >= least).sum(axis=1)
    moments = np.stack([(probs.astype(float) ** power).sum(axis=1) for power in (1, 2, 3, 4)], axis=1)
    return expected_f1_sizes((counts, best[best >= least]), moments, probs.shape[1])


@pytest.mark.parametrize("num_species", [1, 2, 7, 63, 64, 65, 300, 2_000])
@pytest.mark.parametrize("power", [0.5, 2, 8, 30])
def test_lengths_from_the_likelier_species_are_those_of_the_lists(num_species, power):
    """Dense (a list of hundreds), as a forest's plots have them, and sparse (hardly any species)."""
    probs = np.random.default_rng(num_species).random((40, num_species)) ** power
    assert sizes_of(probs).tolist() == expected_f1_sets(probs).lengths().tolist()


def test_lengths_of_ties_of_plots_without_species_and_of_sure_ones():
    rng = np.random.default_rng(0)
    probs = np.zeros((8, 200))
    probs[1] = 0.01  # all species alike, none of them likelier than needs to be given
    probs[2, :30] = 0.5
    probs[3, :3] = 1.0
    probs[4, :150] = 1.0
    probs[5] = np.round(rng.random(200) ** 4, 1)
    probs[6, 0] = 0.009  # likelier than nothing, and not given
    probs[7] = 0.0099
    assert sizes_of(probs).tolist() == expected_f1_sets(probs).lengths().tolist()
    assert sizes_of(probs)[[0, 3, 4]].tolist() == [0, 3, 150]


def test_a_batch_in_which_no_species_is_given_has_the_lengths_of_its_lists():
    probs = np.full((3, 900), 0.003)
    assert sizes_of(probs).tolist() == expected_f1_sets(probs).lengths().tolist() == [0, 0, 0]


@pytest.mark.parametrize("largest", [0.009, 0.011, 0.015, 0.025, 0.04])
def test_lengths_are_untold_only_where_a_species_that_is_not_given_may_belong_to_the_list(largest):
    """Thousands of rare species: the best list has an expected F1 of hundredths."""
    rng = np.random.default_rng(5)
    probs = rng.random((6, 6_000)) ** rng.uniform(0.5, 4, (6, 1)) * largest
    lists, sizes = expected_f1_sets(probs), sizes_of(probs)
    told = sizes >= 0
    assert sizes[told].tolist() == lists.lengths()[told].tolist()
    values = [expected_f1_value(row, lists.row(i)) for i, row in enumerate(probs)]
    assert told[np.array(values) >= 0.04].all() and (largest > 0.01 or not told.any())
    least = [row[lists.row(i)].min() for i, row in enumerate(probs)]
    assert all(p >= 0.01 for p, told_of_row in zip(least, told, strict=True) if told_of_row)


def test_lengths_of_float32_probabilities_are_those_of_their_lists():
    probs = (np.random.default_rng(3).random((300, 500)) ** 10).astype(np.float32)
    assert sizes_of(probs).tolist() == expected_f1_sets(probs).lengths().tolist()


def test_lengths_of_one_survey_do_not_depend_on_the_others():
    probs = np.random.default_rng(4).random((12, 400)) ** np.linspace(0.5, 30, 12)[:, None]
    assert sizes_of(probs).tolist() == [int(sizes_of(row[None])[0]) for row in probs]
