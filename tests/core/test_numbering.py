"""Numbers of different values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cwsam_geo.core.numbering import numbered


@given(
    st.sampled_from((np.uint8, np.int16, np.int32)).flatmap(
        lambda dtype: arrays(dtype, st.integers(0, 60), elements=st.integers(-3, 9).map(abs))
    )
    | arrays(np.int32, st.integers(1, 40), elements=st.integers(-(2**31), 2**31 - 1))
)
def test_the_numbers_are_those_of_numpy(values):
    different, places = numbered(values)
    expected, inverse = np.unique(values, return_inverse=True)
    assert different.dtype == values.dtype
    assert (different == expected).all()
    assert (places == inverse.reshape(-1)).all()
